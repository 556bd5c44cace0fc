"""Aging policies: how MGLRU may ask KVM which pages are young. Imports nothing else of ours."""

from policies.catalogue import POLICIES, get_policy
from policies.installed import PolicyMaker
from policies.policy import WHEN, Call, Chain, Enter, Policy, PolicyCode, Site, When, policy
from policies.steps import Action, Answer, Condition, Lock, Mmu, Note, PolicyError, Step

__all__ = [
    "POLICIES",
    "WHEN",
    "Action",
    "Answer",
    "Call",
    "Chain",
    "Condition",
    "Enter",
    "Lock",
    "Mmu",
    "Note",
    "Policy",
    "PolicyCode",
    "PolicyError",
    "PolicyMaker",
    "Site",
    "Step",
    "When",
    "get_policy",
    "policy",
]
