"""The report of a run: `report.json`, a time line as an SVG picture, and the violations as text."""

import json
import os
from xml.sax.saxutils import escape

from . import checker, footprints
from .history import CHANGES, OK

# A gap without an acknowledged write that is shorter is no event of its own.
GAP = 0.5
WIDTH, LEFT, ROW = 1200, 150, 22
COLOURS = {"up": "#9bc7a0", "leads": "#2f7d3b", "refused": "#d6d6d6", "timeout": "#e0b24a"}


def write(run, name, operations, samples, verdict):
    record = {
        "scenario": name,
        "seed": run.seed,
        "servers": run.count,
        "through": run.through,
        "figures": verdict.figures,
        "measured": run.measured,
        "bounds": run.bounds,
        "sidecars": footprints.summaries(run.footprints.samples),
        "gaps": [{"seconds": round(length, 3), "at": round(at, 3)} for length, at in checker.gaps(operations, GAP)],
        "events": [
            {"begun": round(e.begun, 3), "ended": round(e.ended, 3), "kind": e.kind, "server": e.server}
            for e in run.events
        ],
        "violations": [
            {"check": v.check, "text": v.text, "operations": [str(o) for o in v.operations]} for v in verdict.violations
        ],
    }
    with open(os.path.join(run.directory, "report.json"), "w") as file:
        json.dump(record, file, indent=2)
    with open(os.path.join(run.directory, "timeline.svg"), "w") as file:
        file.write(timeline(name, operations, samples, run.events))


def violations(verdict, operations, most=5):
    """The first violations, each with ten operations around it."""
    lines = []
    for violation in verdict.violations[:most]:
        lines.append(f"{violation.check}: {violation.text}")
        shown = checker.around(operations, violation)
        marked = {id(o) for o in violation.operations}
        lines += [f"  {'>' if id(o) in marked else ' '} {o}" for o in shown or violation.operations]
    if len(verdict.violations) > most:
        lines.append(f"... and {len(verdict.violations) - most} more")
    return "\n".join(lines)


def timeline(title, operations, samples, events):
    """One row for each server, by what it answered; above them writes, gaps and voters; events as vertical lines."""
    times = [s.time for s in samples] + [o.returned for o in operations]
    start, end = min(times, default=0.0), max(times, default=1.0)
    scale = (WIDTH - LEFT - 20) / max(end - start, 1.0)

    def x(time):
        return LEFT + (time - start) * scale

    servers = list(dict.fromkeys((s.server, s.address) for s in sorted(samples, key=lambda s: s.time)))
    height = 150 + ROW * len(servers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height + 40}" font-family="sans-serif" '
        'font-size="11">',
        f'<rect width="{WIDTH}" height="{height + 40}" fill="white"/>',
        f'<text x="10" y="18" font-size="14">{escape(title)}</text>',
    ]
    parts += _writes(operations, x, start, end)
    parts += _voters(samples, x)
    for row, (server, address) in enumerate(servers):
        y = 130 + row * ROW
        parts.append(f'<text x="10" y="{y + 13}">{escape(address)}</text>')
        parts += _states([s for s in samples if s.server == server], x, y)
    parts += _events(events, x, height)
    parts += _seconds(x, start, end, height + 20)
    return "\n".join([*parts, "</svg>\n"])


def _writes(operations, x, start, end):
    """Acknowledged writes a second, and the gaps between them."""
    counts = {}
    for operation in operations:
        if operation.kind in CHANGES and operation.outcome == OK:
            second = int(operation.returned - start)
            counts[second] = counts.get(second, 0) + 1
    most = max(counts.values(), default=1)
    points = [f"{x(start + n + 0.5):.1f},{75 - 40 * counts.get(n, 0) / most:.1f}" for n in range(int(end - start))]
    parts = [f'<text x="10" y="60">writes/s, up to {most}</text>']
    parts.append(f'<polyline fill="none" stroke="#33658a" points="{" ".join(points)}"/>')
    for length, at in checker.gaps(operations, GAP):
        parts.append(
            f'<rect x="{x(at):.1f}" y="33" width="{x(at + length) - x(at):.1f}" height="44" fill="#d1495b" '
            f'opacity="0.4"><title>no acknowledged write for {length:.2f} s</title></rect>'
        )
    return parts


def _voters(samples, x):
    """In the configuration of the leader, by its own account."""
    points, last = [], None
    for sample in sorted(samples, key=lambda s: s.time):
        if sample.voters and checker.leads(sample):
            count = len(sample.voters)
            if last not in (None, count):
                points.append(f"{x(sample.time):.1f},{120 - 4 * last}")
            points.append(f"{x(sample.time):.1f},{120 - 4 * count}")
            last = count
    return [
        f'<text x="10" y="110">voters, {last or "none"} at the end</text>',
        f'<polyline fill="none" stroke="#86569c" stroke-width="2" points="{" ".join(points)}"/>',
    ]


def _states(samples, x, y):
    """Runs of samples of one state as one rectangle."""
    parts, run = [], None
    for sample in [*samples, None]:
        state = sample and ("leads" if checker.leads(sample) else sample.state)
        if run and (sample is None or state != run[0] or sample.time - run[2] > 3):
            parts.append(
                f'<rect x="{x(run[1]):.1f}" y="{y}" width="{max(1.0, x(run[2]) - x(run[1])):.1f}" height="16" '
                f'fill="{COLOURS[run[0]]}"><title>{run[0]}</title></rect>'
            )
            run = None
        if sample:
            run = (state, run[1] if run else sample.time, sample.time)
    return parts


def _events(events, x, height):
    parts = []
    for number, event in enumerate(events):
        at = x(event.begun)
        parts.append(
            f'<line x1="{at:.1f}" y1="28" x2="{at:.1f}" y2="{height}" stroke="black" stroke-dasharray="2 3"/>'
            f'<text x="{at + 2:.1f}" y="{28 + 9 * (number % 2)}" font-size="9">{escape(event.kind)} '
            f"{escape(event.text)}</text>"
        )
    return parts


def _seconds(x, start, end, y):
    step = next((s for s in (1, 5, 10, 30, 60, 300, 600) if (end - start) / s <= 20), 1800)
    return [
        f'<text x="{x(start + n):.1f}" y="{y}" text-anchor="middle">{n} s</text>'
        for n in range(0, int(end - start) + 1, step)
    ]
