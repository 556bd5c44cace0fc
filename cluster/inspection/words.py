"""The life of a page as people read it: line by line, or two lives side by side, a row for each tick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby

from coldfleet.cluster.inspection.explain import Explanation
from coldfleet.hostsim.memory.watch import Ask, Instant, Life, Moment, Seen, Touch

_MMUS = ("primary", "tdp", "shadow")
_SITES = {"walk": "an aging walk asked", "look_around": "a look-around asked", "evict": "eviction asked"}
_LEFT_OUT = "an aging walk left its page table out"


def in_lines(explanation: Explanation) -> Iterator[tuple[str, str]]:
    """The life, line by line, each with its time: touches, asks with their answers, and what happened to the page."""
    life = explanation.life
    judged = {eviction.when: eviction for eviction in explanation.judged}
    touches = list(life.touches)
    asks = {when: list(some) for when, some in groupby(life.asks, lambda ask: ask.when)}
    moments = {when: list(some) for when, some in groupby(life.moments, lambda moment: moment.when)}
    for when in sorted({*asks, *moments}):
        before = touches[: bisect_left(touches, when, key=lambda touch: touch.when)]
        touches = touches[len(before) :]
        yield from _touched(before)
        place = "after the accesses" if when.access >= explanation.accesses.get(when.tick, 0) else f"{when.access:,}"
        time = f"{when.tick}, {place}"
        for ask in (ask for ask in asks.get(when, ()) if ask.site or ask.touched):
            yield time, ask_in_words(ask, life)
            time = ""
        for moment in moments.get(when, ()):
            said = changes_in_words(moment, asked=when in asks)
            if said:
                yield time, "; ".join(said) + ("" if moment.faulted_in else f", in {moment.cause}")
                time = ""
            if moment.evicted:
                yield "", str(judged[moment.when])
    yield from _touched(touches)


def by_tick(explanations: list[Explanation]) -> Iterator[tuple[str, str, list[str]]]:
    """For each tick who touched the page, and what became of it in each run; ticks without news are left out."""
    life = explanations[0].life
    ticks = {touch.when.tick for touch in life.touches}
    for one in explanations:
        ticks |= {ask.when.tick for ask in one.life.asks} | {moment.when.tick for moment in one.life.moments}
    for tick in sorted(ticks):
        touches = [touch for touch in life.touches if touch.when.tick == tick]
        yield str(tick), who_touched(touches), ["; ".join(_news(one, tick)) for one in explanations]


def _news(explanation: Explanation, tick: int) -> Iterator[str]:
    """What a tick brought to a page, in short; equal answers in a row are one."""
    life = explanation.life
    right = {eviction.when: eviction.right for eviction in explanation.judged}
    events: list[tuple[Instant, int, str]] = []
    for ask in life.asks:
        if ask.when.tick == tick and (ask.site or ask.touched):
            events.append((ask.when, 0, _in_short(ask, life)))
    for moment in life.moments:
        if moment.when.tick == tick and moment.evicted:
            events.append((moment.when, 1, "EVICTED" if right[moment.when] else "EVICTED, wrong"))
        elif moment.when.tick == tick and moment.faulted_in and moment.before.swapped:
            events.append((moment.when, 1, "refault"))
    for text, same in groupby(text for _, _, text in sorted(events)):
        count = len(list(same))
        yield text if count == 1 else f"{text} ({count} times)"


def _in_short(ask: Ask, life: Life) -> str:
    """The site and what it was told; the truth only if that is something else."""
    number = bisect_left(life.touches, ask.when, key=lambda touch: touch.when)
    if not ask.site:
        return f"not asked ({'L2' if life.touches[number - 1].by_l2 else 'L1'} touched it)"
    text = f"{ask.site.replace('_', '-')}: {'young' if ask.young else 'old'}"
    if ask.young == ask.touched:
        return text
    if ask.huge:
        return f"{text}, WRONG (of its huge page)"
    who = "untouched" if ask.young else f"{'L2' if life.touches[number - 1].by_l2 else 'L1'} touched it"
    return f"{text}, WRONG ({who})"


def ask_in_words(ask: Ask, life: Life) -> str:
    """Which site asked, what it was told and by which MMU, and whether that was true."""
    if not ask.site:
        return f"{_LEFT_OUT}: {_truth(ask, life)}"
    bits = [name for name in _MMUS if getattr(ask, name)]
    site = _SITES[ask.site] + (" for its huge page" if ask.huge else "")
    if ask.young:
        heard = [name for name in bits if name == "primary" or not ask.failed]
        return f"{site}: {_answer(ask, life)} (by the Accessed bit {' and '.join(heard)})"
    unseen = f"Accessed bit {' and '.join(bits)} was set" if bits else "no Accessed bit was set"
    silent = "; KVM said nothing" if ask.failed else ""
    return f"{site}: {_answer(ask, life)} ({unseen}{silent})"


def _answer(ask: Ask, life: Life) -> str:
    answer = "young" if ask.young else "old"
    return f"{answer}, {'rightly' if ask.young == ask.touched else f'wrongly: {_truth(ask, life)}'}"


def _truth(ask: Ask, life: Life) -> str:
    """When the page had been touched last, as no kernel knows."""
    if ask.huge:
        return f"{'one' if ask.touched else 'none'} of the 512 pages of its huge page had been touched"
    number = bisect_left(life.touches, ask.when, key=lambda touch: touch.when)
    if not number:
        return "not touched before"
    last = life.touches[number - 1]
    who = "L2" if last.by_l2 else "L1"
    if ask.touched:
        return f"{who} had touched it in tick {last.when.tick}"
    return f"not touched since it was last asked for ({who} in tick {last.when.tick})"


def _touched(touches: list[Touch]) -> Iterator[tuple[str, str]]:
    if touches:
        first, last = touches[0].when.tick, touches[-1].when.tick
        yield (f"{first}" if first == last else f"{first} to {last}"), f"touched {who_touched(touches)}"


def who_touched(touches: list[Touch]) -> str:
    """How often, and by whom."""
    if not touches:
        return ""
    by_l2, writes = sum(touch.by_l2 for touch in touches), sum(touch.write for touch in touches)
    times = "once" if len(touches) == 1 else f"{len(touches)} times"
    who = "by L1" if not by_l2 else "by L2" if by_l2 == len(touches) else f"by L1 and L2 ({by_l2})"
    written = f", {writes} of them writes" if writes and len(touches) > 1 else ", a write" if writes else ""
    return f"{times} {who}{written}"


def changes_in_words(moment: Moment, asked: bool = False) -> list[str]:
    """What happened to a page in a moment; ``asked``: that a site asked for it then is said elsewhere."""
    before, after = moment.before, moment.after
    if moment.evicted:
        return [
            f"evicted {'with its huge page ' if before.huge else ''}{_from_where(before, moment)}with {_bits(before)}"
        ]
    if moment.faulted_in:
        how = "read from swap: a refault" if before.swapped else "mapped for the first time"
        how += " by a huge page" if after.huge else ""
        return [how + (f", generation {after.seq}" if after.seq >= 0 else "")]
    said = []
    if before.huge != after.huge:
        said.append("part of a huge page now" if after.huge else "its huge page was split")
    if before.seq != after.seq:
        said.append(f"moved from generation {before.seq} to {after.seq} ({moment.min_seq} to {moment.max_seq})")
    if not asked:
        for name in _MMUS:
            was, is_now = getattr(before, name), getattr(after, name)
            if was != is_now:
                said.append(f"Accessed bit {name} {'set' if is_now else 'cleared'}")
    for name in ("referenced", "workingset", "active"):
        if getattr(before, name) != getattr(after, name):
            said.append(f"{'' if getattr(after, name) else 'no longer '}{name}")
    if before.refs != after.refs:
        said.append(f"references {before.refs} to {after.refs}")
    if before.swapped != after.swapped:
        said.append("its copy on the swap device is " + ("there" if after.swapped else "given up"))
    return said


def _from_where(before: Seen, moment: Moment) -> str:
    return f"from generation {before.seq} (now {moment.min_seq} to {moment.max_seq}) " if before.seq >= 0 else ""


def _bits(seen: Seen) -> str:
    young = [name for name in _MMUS if getattr(seen, name)]
    return f"Accessed bits: {', '.join(young)}" if young else "no Accessed bit set"
