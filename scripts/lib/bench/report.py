"""The figures as text, and what they are held against."""

LAYER_7 = ("twemproxy", "envoy", "envoy-batching")
PROXIES = (*LAYER_7, "haproxy")
MIB = 1024 * 1024
KIB = 1024


def table(header, rows):
    """Columns as wide as their widest cell; the first to the left, the others
    to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    )


def text(about, results, memory, targets):
    parts = [
        f"{about['cores']} cores, {about['processor']}, Redis {about['redis']}, "
        f"{about['file_system']}; {about['value_bytes']} byte values, {about['keys']} keys; "
        f"medians of {about['runs']} interleaved runs of about {about['seconds']} s; "
        f"load average at the start {about['load_average_at_start']:.2f}"
    ]
    for load, by_subject in results.items():
        direct = by_subject.get("direct", {}).get("ops_per_second")
        rows = [load_row(name, result, direct) for name, result in by_subject.items()]
        header = (load, "k ops/s", "range", "of direct", "p50 ms", "p99 ms", "CPU us/op")
        parts.append(table(header, rows))
    if memory:
        parts.append(table(
            ("process", "ready ms", "idle MiB", "loaded MiB", "KiB/idle connection"),
            [memory_row(name, figures) for name, figures in memory.items()],
        ))
    if targets:
        parts.append(table(
            ("target", "wanted", "measured", ""),
            [(row["target"], row["wanted"], row["measured"], "pass" if row["pass"] else "MISS")
             for row in targets],
        ))
    return "\n\n".join(parts)


def load_row(name, result, direct):
    low, high = result["ops_per_second_range"]
    rate = result["ops_per_second"]
    cpu = result.get("cpu_us_per_op")
    return (
        name,
        f"{rate / 1000:.1f}",
        f"{low / 1000:.0f}-{high / 1000:.0f}",
        f"{rate / direct:.2f}" if direct else "",
        f"{result['p50_ms']:.3f}",
        f"{result['p99_ms']:.3f}",
        "" if cpu is None else f"{cpu:.2f}",
    )


def memory_row(name, figures):
    return (
        name,
        f"{figures['ready_ms']:.0f}",
        f"{figures['idle_bytes'] / MIB:.1f}",
        f"{figures['loaded_bytes'] / MIB:.1f}",
        f"{figures['bytes_per_idle_connection'] / KIB:.1f}",
    )


def targets(results, memory):
    """Every target that the measured subjects and loads allow to judge."""
    rows = []

    def at_least(name, wanted, measured):
        rows.append({"target": name, "wanted": f">= {wanted}", "measured": f"{measured:.2f}",
                     "pass": measured >= wanted})

    def at_most(name, wanted, measured, unit):
        rows.append({"target": name, "wanted": f"<= {wanted:.3g} {unit}",
                     "measured": f"{measured:.3g} {unit}", "pass": measured <= wanted})

    def rates(load, names):
        by_subject = results.get(load, {})
        return [by_subject[name]["ops_per_second"] for name in names if name in by_subject]

    def judge(load, name, wanted, against):
        own, others = rates(load, ["sidecar"]), rates(load, against)
        if own and others:
            at_least(f"{load}: {name}", wanted, own[0] / max(others))

    judge("get-c50-p16", "of direct", 0.8, ["direct"])
    judge("get-c50-p16", "of the best layer-7 peer", 1.5, LAYER_7)
    sidecar = results.get("get-c50-p16", {}).get("sidecar")
    if sidecar:
        at_most("get-c50-p16: CPU per operation", 1.1, sidecar["cpu_us_per_op"], "us")
    judge("get-c50-p1", "of direct", 0.95, ["direct"])
    judge("get-c50-p1", "of the best peer", 1.0, PROXIES)
    one = results.get("get-c1-p1", {})
    if "sidecar" in one and "haproxy" in one:
        at_most("get-c1-p1: p50 against HAProxy", one["haproxy"]["p50_ms"], one["sidecar"]["p50_ms"], "ms")
    for load in results:
        if load.startswith("set-"):
            judge(load, "durable, of appendfsync always", 1.0, ["redis-fsync"])
    if "sidecar" in memory:
        figures = memory["sidecar"]
        at_most("memory idle", 15, figures["idle_bytes"] / MIB, "MiB")
        at_most("memory per idle connection", 8, figures["bytes_per_idle_connection"] / KIB, "KiB")
        at_most("start to ready", 100, figures["ready_ms"], "ms")
    return rows
