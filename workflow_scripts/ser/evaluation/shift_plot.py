"""The plot of speakers' shifts against performance and against what calibration gains."""

import altair as alt

from ser.files import atomic

PANELS = [("feature_shift", "ccc"), ("label_shift", "ccc"), ("label_shift", "gain")]


def plot_shifts(path: str, rows: list[dict], targets: list[str], calibration: str) -> None:
    """Write an SVG with a row of panels for each target and a point for each speaker; without rows it says so."""
    titles = {
        "feature_shift": "feature shift (KL less chance, nats)",
        "label_shift": "label shift (KL less chance, nats)",
        "ccc": "CCC, uncalibrated",
        "gain": f"gain in CCC by {calibration}",
    }
    charts = []
    for target in targets:
        data = [row for row in rows if row["target"] == target]
        panels = []
        for x, y in PANELS:
            shown = [row for row in data if row[x] is not None and row[y] is not None]
            points = alt.Chart(alt.Data(values=shown)).encode(
                x=alt.X(f"{x}:Q", title=titles[x], scale=alt.Scale(zero=False)),
                y=alt.Y(f"{y}:Q", title=titles[y], scale=alt.Scale(zero=False)),
                color=alt.Color("split:N", title="split"),
            )
            line = points.transform_regression(x, y).mark_line(color="#777", strokeDash=[4, 3])
            panel = points.mark_circle(size=45, opacity=0.7)
            panels.append((panel + line.encode(color=alt.value("#777"))).properties(width=210, height=170))
        if data:
            charts.append(alt.hconcat(*panels).properties(title=target))
    if not charts:
        charts = [
            alt.Chart(alt.Data(values=[{"text": "no test speaker has labels"}])).mark_text().encode(text="text:N")
        ]
    with atomic(path) as temporary:
        alt.vconcat(*charts).save(temporary, format="svg")
