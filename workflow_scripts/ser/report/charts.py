"""The report's plots, as Vega-Lite over datasets by name; `@colour` stands for a colour of the page's theme."""

from dataclasses import dataclass, field

import altair as alt

EFFECTS = alt.Scale(domain=["helped", "harmed", "unchanged"], range=["@helped", "@harmed", "@muted"])
SERIES = alt.Scale(range=[f"@series{number}" for number in range(1, 9)])
HEIGHT = 240


@dataclass(frozen=True)
class Plot:
    """A chart and what the page needs to draw it beyond the values that its reader chose."""

    chart: alt.TopLevelMixin
    fixed: dict[str, str] = field(default_factory=dict)  # choices that this plot does not follow
    step: str = ""  # the dataset whose rows decide the height: one a line
    needs: tuple[str, ...] = ()  # fields without which a row is no point

    def to_json(self) -> dict:
        spec = self.chart.to_dict()
        for key in ("$schema", "config"):
            spec.pop(key, None)
        return {"spec": spec, "fixed": self.fixed, "step": self.step, "needs": self.needs}


def _start(dataset: str, height: int | None = HEIGHT) -> alt.Chart:
    chart = alt.Chart(alt.NamedData(dataset)).properties(width="container")
    return chart if height is None else chart.properties(height=height)


def _x(name: str, title: str, **options) -> alt.X:
    return alt.X(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), **options)


def _y(name: str, title: str, **options) -> alt.Y:
    return alt.Y(f"{name}:Q", title=title, scale=alt.Scale(zero=False, nice=True), **options)


def _number(name: str, title: str, form: str = ".3f") -> alt.Tooltip:
    return alt.Tooltip(f"{name}:Q", title=title, format=form)


def plot_speakers() -> Plot:
    """A line a speaker from the CCC without calibration to that with it; those harmed most are at the bottom."""
    tooltip = [alt.Tooltip("speaker:N"), alt.Tooltip("n:Q", title="utterances"), _number("before", "CCC without")]
    tooltip += [_number("ccc", "CCC with"), _number("delta_ccc", "difference", "+.3f")]
    axis = alt.Axis(labelLimit=110, ticks=False, domain=False)
    base = _start("speakers", None).encode(y=alt.Y("speaker:N", sort=None, title=None, axis=axis), tooltip=tooltip)
    colour = alt.Color("effect:N", scale=EFFECTS, title=None, legend=alt.Legend(orient="top"))
    line = base.mark_rule(strokeWidth=2).encode(
        x=_x("before", "CCC", axis=alt.Axis(tickCount=8)), x2="ccc:Q", color=colour
    )
    start = base.mark_point(filled=True, fill="@surface", size=32, opacity=1)
    start = start.encode(x="before:Q", stroke=alt.Stroke("effect:N", scale=EFFECTS))
    end = base.mark_point(filled=True, size=48, opacity=1).encode(x="ccc:Q", color=colour)
    return Plot(alt.layer(line, start, end), step="speakers")


def plot_shares() -> Plot:
    """Shares of speakers whom each calibration harms (left) and helps (right)."""
    tooltip = [alt.Tooltip("calibration:N"), alt.Tooltip("n_speakers:Q", title="speakers")]
    tooltip += [_number("share_helped", "helped", ".0%"), _number("share_harmed", "harmed", ".0%")]
    tooltip += [_number("worst_decile_ccc", "CCC of the worst tenth")]
    base = _start("shares", None).encode(
        y=alt.Y("calibration:N", sort=None, title=None, axis=alt.Axis(labelLimit=150, ticks=False, domain=False)),
        tooltip=tooltip,
    )
    axis = alt.Axis(labelExpr="format(abs(datum.value), '.0%')", tickCount=5)
    scale = alt.Scale(domain=[-1, 1])
    left = base.transform_calculate(left="-datum.share_harmed").mark_bar(color="@harmed", height={"band": 0.6})
    left = left.encode(x=alt.X("left:Q", title="◂ harmed · helped ▸", axis=axis, scale=scale))
    right = base.mark_bar(color="@helped", height={"band": 0.6}).encode(x=alt.X("share_helped:Q"))
    zero = _start("shares", None).mark_rule(color="@ink").encode(x=alt.datum(0))
    return Plot(alt.layer(left, right, zero), step="shares")


def plot_groups(group: str, figure: str, title: str) -> Plot:
    """A figure of each group of speakers with its interval; a gap that is told from chance is strong."""
    tooltip = [alt.Tooltip("value:N", title=f"{group} (speakers)"), alt.Tooltip("n_utterances:Q", title="utterances")]
    tooltip += [_number(f"{figure}{end}", f"{title}{end.replace('_', ', ')}") for end in ("", "_low", "_high")]
    axis = alt.Axis(labelLimit=150, ticks=False, domain=False)
    strong = alt.value("@ink") if figure == "a_ccc" else alt.value("@muted")
    tone = alt.condition("datum.told", alt.value("@ink"), alt.value("@muted")) if figure == "gap_a_ccc" else strong
    base = _start("groups", None).encode(
        y=alt.Y("value:N", sort=None, title=None, axis=axis), color=tone, tooltip=[*tooltip, "note:N"]
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(x=_x(figure, title, axis=alt.Axis(tickCount=5)))
    # Where there is no interval the bar hides behind the dot: no bar at all would be an endless scale for Vega.
    ends = {end: f"isValid(datum.{figure}_{end}) ? datum.{figure}_{end} : datum.{figure}" for end in ("low", "high")}
    bars = base.transform_calculate(**ends).mark_rule(strokeWidth=2).encode(x="low:Q", x2="high:Q")
    zero = _start("groups", None).mark_rule(color="@line").encode(x=alt.datum(0))
    return Plot(alt.layer(zero, bars, points), fixed={"group": group}, step="groups", needs=(figure,))


def plot_curve(name: str) -> Plot:
    """Validation A-CCC over k or alpha: one line per seed, the chosen as a dot, no calibration as a dashed line."""
    titles = {"k": "k, similar training speakers", "alpha": "alpha, share of the speaker's own statistics"}
    scale = alt.Scale(type="log", nice=False, padding=12) if name == "k" else alt.Scale()
    axis = alt.Axis(format="d", tickCount=6) if name == "k" else alt.Axis(tickCount=5)
    tooltip = [alt.Tooltip("seed:N"), alt.Tooltip("value:Q", title=name), _number("a_ccc", "A-CCC")]
    base = _start(f"{name}_curve").encode(
        x=alt.X("value:Q", title=titles[name], scale=scale, axis=axis),
        y=_y("a_ccc", "A-CCC, validation"),
        color=alt.Color("seed:N", scale=SERIES, legend=alt.Legend(orient="top")),
        tooltip=tooltip,
    )
    chosen = base.transform_filter("datum.chosen").mark_point(filled=True, size=80, opacity=1)
    none = _start("uncalibrated").mark_rule(strokeDash=[5, 4], opacity=0.8).encode(y="a_ccc:Q", color="seed:N")
    return Plot(alt.layer(none, base.mark_line(strokeWidth=1.6), chosen))


def plot_enrolment(value: str, title: str) -> Plot:
    """A figure by how many utterances of a speaker are enrolled, without and with labels, with its intervals."""
    x = alt.X(
        "utterances:N", sort=alt.SortField("place"), title="utterances of the speaker", axis=alt.Axis(labelAngle=0)
    )
    series = ["without labels", "with labels"]
    colour = alt.Color(
        "series:N",
        scale=alt.Scale(domain=series, range=["@series2", "@series1"]),
        title=None,
        legend=alt.Legend(orient="top"),
    )
    tooltip = ["calibration:N", alt.Tooltip("n_speakers:Q", title="speakers"), _number(value, title, "+.3f")]
    tooltip += [_number(f"{value}_{end}", end, "+.3f") for end in ("low", "high")]
    place = {"x": x, "color": colour, "xOffset": alt.XOffset("series:N", sort=series), "tooltip": tooltip}
    bars = _start("enrolment_bars").mark_rule(strokeWidth=1.6)
    bars = bars.encode(**place, y=_y(f"{value}_low", title), y2=f"{value}_high:Q")
    points = _start("enrolment").mark_point(filled=True, size=70, opacity=1).encode(**place, y=_y(value, title))
    zero = _start("enrolment").mark_rule(color="@muted").encode(y=alt.datum(0))
    return Plot(alt.layer(zero, bars, points), needs=(value,))


def plot_shift(x: str, y: str) -> Plot:
    """A point a speaker: how far from the training set, against performance or gain."""
    titles = {
        "feature_shift": "feature shift (KL less chance, nats)",
        "label_shift": "label shift (KL less chance, nats)",
        "ccc": "CCC, uncalibrated",
        "gain": "gain in CCC",
    }
    base = _start("shifts")
    tooltip = [alt.Tooltip("speaker:N"), alt.Tooltip("n:Q", title="utterances")]
    tooltip += [_number(name, title) for name, title in titles.items()]
    points = base.mark_circle(size=46, opacity=0.75).encode(
        x=_x(x, titles[x], axis=alt.Axis(tickCount=5)), y=_y(y, titles[y]), tooltip=tooltip
    )
    layers = [points]
    if y == "gain":
        effect = "datum.gain > 1e-6 ? 'helped' : datum.gain < -1e-6 ? 'harmed' : 'unchanged'"
        colour = alt.Color("effect:N", scale=EFFECTS, title=None, legend=alt.Legend(orient="top"))
        zero = base.mark_rule(color="@muted").encode(y=alt.datum(0))
        layers = [zero, points.transform_calculate(effect=effect).encode(color=colour)]
    line = base.transform_regression(x, y).mark_line(color="@muted", strokeDash=[5, 4], strokeWidth=1.5)
    layers.append(line.encode(x=f"{x}:Q", y=f"{y}:Q"))
    return Plot(alt.layer(*layers), needs=(x, y))


def plot_density(dataset: str, low: float, width: float, high: float) -> Plot:
    """Utterances by label and prediction; on the diagonal a prediction is right."""
    base = _start(dataset, 300).transform_calculate(
        x=f"{low} + datum.true * {width}",
        x2=f"{low} + (datum.true + 1) * {width}",
        y=f"{low} + datum.predicted * {width}",
        y2=f"{low} + (datum.predicted + 1) * {width}",
    )
    scale = alt.Scale(domain=[low, high], nice=False)
    grid = alt.Axis(grid=False, tickCount=6, format="~g")
    cells = base.mark_rect().encode(
        x=alt.X("x:Q", scale=scale, title="label", axis=grid),
        x2="x2:Q",
        y=alt.Y("y:Q", scale=scale, title="prediction", axis=grid),
        y2="y2:Q",
        color=alt.Color(
            "count:Q", scale=alt.Scale(type="sqrt", range=["@density0", "@density1"]), title="utterances", legend=None
        ),
        tooltip=[
            _number("x", "label from", ".2f"),
            _number("y", "prediction from", ".2f"),
            _number("count", "n", ".4~g"),
        ],
    )
    ends = alt.Chart(alt.InlineData(values=[{"a": low}, {"a": high}]))
    diagonal = ends.mark_line(color="@muted", strokeDash=[4, 4], strokeWidth=1).encode(x="a:Q", y="a:Q")
    return Plot(alt.layer(cells, diagonal))


def plot_marginals(low: float, width: float) -> Plot:
    """How labels, predictions and calibrated predictions are spread."""
    colours = alt.Scale(domain=["label", "prediction", "calibrated"], range=["@ink", "@series2", "@series1"])

    def outline(dataset: str, axis: str, name: str) -> alt.Chart:
        return (
            _start(dataset)
            .transform_aggregate(total="sum(count)", groupby=[axis])
            .transform_impute(impute="total", key=axis, value=0, keyvals={"start": 0, "stop": 24, "step": 1})
            .transform_joinaggregate(all="sum(total)")
            .transform_calculate(value=f"{low} + (datum.{axis} + 0.5) * {width}", share="datum.total / datum.all")
            .transform_calculate(what=f"'{name}'")
            .mark_line(interpolate="step", strokeWidth=1.8)
            .encode(
                x=alt.X("value:Q", title="value", scale=alt.Scale(nice=False)),
                y=alt.Y("share:Q", title="share of utterances", axis=alt.Axis(format=".0%")),
                color=alt.Color("what:N", scale=colours, title=None, legend=alt.Legend(orient="top")),
            )
        )

    layers = [outline("densities", "true", "label"), outline("densities", "predicted", "prediction")]
    layers.append(outline("densities_calibrated", "predicted", "calibrated"))
    return Plot(alt.layer(*layers))


def plot_history(y: str, title: str) -> Plot:
    """A line a seed over the epochs of training; the dot is the epoch that was kept."""
    base = _start("histories").encode(
        x=_x("epoch", "epoch", axis=alt.Axis(tickMinStep=1)),
        y=_y(y, title),
        color=alt.Color("seed:N", scale=SERIES, legend=alt.Legend(orient="top")),
        tooltip=[alt.Tooltip("seed:N"), alt.Tooltip("epoch:Q"), _number(y, title)],
    )
    last = base.transform_filter("datum.best").transform_window(
        order="rank()", sort=[alt.SortField("epoch", "descending")], groupby=["seed"]
    )
    best = last.transform_filter("datum.order == 1").mark_point(filled=True, size=80, opacity=1)
    return Plot(alt.layer(base.mark_line(strokeWidth=1.6), best))


def plot_training(measure: str) -> Plot:
    """A measure over the steps of an encoder's adaptation: one colour per encoder, strong on validation speakers."""
    base = _start("training").encode(
        x=_x("step", "step"),
        y=_y("value", measure),
        color=alt.Color("encoder:N", scale=SERIES, title=None, legend=alt.Legend(orient="top", symbolOpacity=1)),
        detail="split:N",
        tooltip=["encoder:N", "split:N", "step:Q", _number("value", measure, ".4~g")],
    )
    others = base.transform_filter("datum.split != 'validation'").mark_line(strokeWidth=1, opacity=0.4)
    own = base.transform_filter("datum.split == 'validation'").mark_line(point={"size": 40}, strokeWidth=2.2)
    own = own.encode(strokeDash=alt.StrokeDash("encoder:N", legend=None))  # TAPT and PAPT may lie on one another
    return Plot(alt.layer(others, own), fixed={"measure": measure})


def plot_vectors() -> Plot:
    """Speakers in the plane of the first two principal components, with lines to the nearest training speakers."""
    hover = alt.selection_point(on="pointerover", fields=["speaker"], empty=False, clear="pointerout")
    colour = alt.Color(
        "label:Q",
        scale=alt.Scale(scheme={"name": "viridis", "extent": [0.1, 0.9]}),
        title="mean label",
        legend=alt.Legend(orient="top"),
    )
    axes = alt.Axis(labels=False, ticks=False, grid=False)
    place = {
        "x": alt.X("x:Q", title="first component", scale=alt.Scale(zero=False), axis=axes),
        "y": alt.Y("y:Q", title="second component", scale=alt.Scale(zero=False), axis=axes),
    }
    tooltip = ["speaker:N", _number("label", "mean label", ".2f")]
    train = _start("references", 420).mark_circle(size=34, opacity=0.7).encode(**place, color=colour, tooltip=tooltip)
    lines = (
        _start("links", 420)
        .mark_rule(color="@ink", strokeWidth=1.2)
        .encode(**place, x2="x2:Q", y2="y2:Q", opacity=alt.condition(hover, alt.value(0.9), alt.value(0.1)))
    )
    vectors = _start("vectors", 420)
    own = vectors.mark_point(shape="diamond", filled=True, size=110, opacity=1, stroke="@ink")
    near = vectors.mark_point(filled=True, size=700, opacity=0)  # what a finger meets
    near = near.encode(**place, tooltip=[*tooltip, _number("near", "mean label of its neighbours", ".2f")])
    return Plot(alt.layer(train, lines, own.encode(**place, color=colour), near.add_params(hover)))


def plot_premise() -> Plot:
    """The mean label of a speaker's neighbours against its own: what PLDC rests on."""
    base = _start("vectors", 420)
    points = base.mark_point(shape="diamond", filled=True, size=80, color="@accent").encode(
        x=_x("near", "mean label of the 5 nearest training speakers", axis=alt.Axis(tickCount=6)),
        y=_y("label", "the speaker's own mean label"),
        tooltip=["speaker:N", _number("near", "neighbours", ".2f"), _number("label", "own", ".2f")],
    )
    line = base.transform_regression("near", "label").mark_line(color="@muted", strokeDash=[5, 4], strokeWidth=1.5)
    return Plot(alt.layer(points, line.encode(x="near:Q", y="label:Q")), needs=("near", "label"))


def plot_labels() -> Plot:
    """How the labels of each split are spread."""
    chart = (
        _start("labels")
        .transform_calculate(middle="(datum.low + datum.high) / 2")
        .mark_line(interpolate="step", strokeWidth=1.8)
        .encode(
            x=alt.X("middle:Q", title="label", scale=alt.Scale(nice=False)),
            y=alt.Y("share:Q", title="share of utterances", axis=alt.Axis(format=".0%")),
            color=alt.Color("split:N", sort=None, scale=SERIES, title=None, legend=alt.Legend(orient="top")),
            tooltip=["split:N", _number("low", "from", ".2f"), _number("high", "to", ".2f"), alt.Tooltip("count:Q")],
        )
    )
    return Plot(chart)


def plot_utterances() -> Plot:
    """How many utterances the speakers of the chosen split have."""
    chart = (
        _start("per_speaker")
        .mark_bar(color="@accent")
        .encode(
            x=alt.X("low:Q", bin="binned", title="utterances of a speaker", axis=alt.Axis(tickMinStep=1)),
            x2="high:Q",
            y=alt.Y("speakers:Q", title="speakers", axis=alt.Axis(tickMinStep=1)),
            tooltip=["low:Q", alt.Tooltip("high:Q", title="below"), "speakers:Q"],
        )
    )
    return Plot(chart)


def make_plots(label_range: list[float], measures: list[str], bins: int, groups: list[str]) -> dict[str, dict]:
    """All plots by the id of their place on the page."""
    low, high = label_range
    width = (high - low) / bins
    plots = {
        "labels": plot_labels(),
        "utterances": plot_utterances(),
        "speakers": plot_speakers(),
        "shares": plot_shares(),
        "k": plot_curve("k"),
        "alpha": plot_curve("alpha"),
        "enrolment-1": plot_enrolment("gain", "gain in A-CCC over no calibration"),
        "enrolment-2": plot_enrolment("beyond", "A-CCC beyond calibration with all audio"),
        "shift-1": plot_shift("feature_shift", "ccc"),
        "shift-2": plot_shift("label_shift", "ccc"),
        "shift-3": plot_shift("label_shift", "gain"),
        "density": plot_density("densities", low, width, high),
        "density-calibrated": plot_density("densities_calibrated", low, width, high),
        "marginals": plot_marginals(low, width),
        "history-ccc": plot_history("validation_ccc", "CCC, validation"),
        "history-loss": plot_history("loss", "loss, training"),
        "vectors": plot_vectors(),
        "premise": plot_premise(),
    }
    plots |= {f"training-{number}": plot_training(measure) for number, measure in enumerate(measures)}
    figures = {"a_ccc": "A-CCC", "delta_a_ccc": "Δ A-CCC", "gap_a_ccc": "gap in A-CCC"}
    plots |= {
        f"{figure}-{number}": plot_groups(group, figure, title)
        for number, group in enumerate(groups)
        for figure, title in figures.items()
    }
    return {name: plot.to_json() for name, plot in plots.items()}
