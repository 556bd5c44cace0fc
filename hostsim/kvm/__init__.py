"""The MMU notifier chain, and KVM on it: the ages of pages by gfn."""
