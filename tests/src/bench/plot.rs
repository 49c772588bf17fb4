//! Plots of how costs grow, as SVG.

use anyhow::{Context as _, Result, anyhow};
use plotters::prelude::*;

use super::budgets::at_sizes;
use super::cpus;
use super::sheet::Sheet;
use super::sweep::METHODS;
use super::table::number;

const SIZE: (u32, u32) = (760, 440);
const FONT: &str = "sans-serif";
/// Told apart also without colour (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// A named curve.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Which axes go by powers of ten.
#[derive(Clone, Copy)]
enum Axes {
    Neither,
    /// The horizontal one.
    Across,
    Both,
}

/// A file of docs/performance/.
pub(super) struct Plot {
    /// Its name there.
    pub(super) file: &'static str,
    /// What it shows.
    pub(super) title: &'static str,
    x: &'static str,
    y: &'static str,
    axes: Axes,
    series: Vec<Series>,
}

/// The plots that the figures are enough for.
pub(super) fn plots(sheet: &Sheet) -> Vec<Plot> {
    let at = |part: &str, group: &str, name: &str| -> Vec<_> {
        let figures = at_sizes(sheet, part, group, name).into_iter();
        figures.map(|(size, figure)| (size as f64, figure.median)).collect()
    };
    let by_size = |name: &str, column: &str| Series {
        name: name.to_owned(),
        points: at("sweep", "", &format!(": {name}/{column}")),
    };
    let by_cpus = |load: &str, condition: &str| Series {
        name: format!("{load}, {condition}"),
        points: cpus::counts(1024)
            .filter_map(|count| {
                let name = format!("{load}/CPUs {count}: {condition}/rate");
                Some((count as f64, sheet.figure("cpus", &name)?.median))
            })
            .collect(),
    };
    let beside_open = |load: &str| Series {
        name: load.to_owned(),
        points: at("open", &format!("{load}/"), ": flowprobe/ratio"),
    };
    let plots = [
        Plot {
            file: "sweep.svg",
            title: "CPU time of one look at all sockets",
            x: "sockets",
            y: "ms",
            axes: Axes::Both,
            series: METHODS.iter().map(|method| by_size(method, "cpu")).collect(),
        },
        Plot {
            file: "sweep-a-socket.svg",
            title: "CPU time of a look, for one socket",
            x: "sockets",
            y: "µs",
            axes: Axes::Both,
            series: METHODS.iter().map(|method| by_size(method, "cpu a socket")).collect(),
        },
        Plot {
            file: "resident.svg",
            title: "Resident memory of the daemon",
            x: "sockets",
            y: "MiB",
            axes: Axes::Both,
            series: vec![by_size("flowprobe", "resident")],
        },
        Plot {
            file: "open.svg",
            title: "Rates beside flowprobe, of the bare, by open sockets",
            x: "sockets",
            y: "ratio",
            axes: Axes::Across,
            series: ["crr", "rr"].map(beside_open).into(),
        },
        Plot {
            file: "cpus.svg",
            title: "Connections (crr) a second by CPUs",
            x: "CPUs",
            y: "1/s",
            axes: Axes::Neither,
            series: ["nothing", "flowprobe"].map(|condition| by_cpus("crr", condition)).into(),
        },
        Plot {
            file: "cpus-rr.svg",
            title: "Round trips (rr) a second by CPUs",
            x: "CPUs",
            y: "1/s",
            axes: Axes::Neither,
            series: ["nothing", "flowprobe"].map(|condition| by_cpus("rr", condition)).into(),
        },
    ];
    // A curve has two points at least.
    let worth = |mut plot: Plot| {
        plot.series.retain(|series| series.points.len() > 1);
        (!plot.series.is_empty()).then_some(plot)
    };
    plots.into_iter().filter_map(worth).collect()
}

impl Plot {
    /// The drawing.
    pub(super) fn svg(&self) -> Result<String> {
        let mut text = String::new();
        self.draw(&mut text).map_err(|error| anyhow!("{} cannot be drawn: {error}", self.file))?;
        Ok(text)
    }

    fn draw(&self, text: &mut String) -> Result<()> {
        let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let range = |value: fn(&(f64, f64)) -> f64| {
            let values = points().map(value);
            values.fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)))
        };
        let ((left, right), (low, high)) = (range(|point| point.0), range(|point| point.1));
        let mut chart = ChartBuilder::on(&root);
        chart.caption(self.title, (FONT, 18)).margin(12).x_label_area_size(44).y_label_area_size(70);
        // Beyond the ends there is room for a curve that is flat, and for the names.
        let across = (left * 0.8..right * 1.25).log_scale();
        let plain = 0.0..high * 1.4;
        match self.axes {
            Axes::Both => {
                let low = low.max(high / 1e6);
                let mut chart = chart.build_cartesian_2d(across, (low / 2.0..high * 6.0).log_scale())?;
                draw_axes!(chart, self);
                draw_series!(chart, self.series);
            }
            Axes::Across => {
                let mut chart = chart.build_cartesian_2d(across, plain)?;
                draw_axes!(chart, self);
                draw_series!(chart, self.series);
            }
            Axes::Neither => {
                let mut chart = chart.build_cartesian_2d(0.0..right * 1.1, plain)?;
                draw_axes!(chart, self);
                draw_series!(chart, self.series);
            }
        }
        root.present().context("nothing was drawn")
    }
}

/// The two kinds of axes are different types, so these two are macros.
macro_rules! draw_axes {
    ($chart:expr, $plot:expr) => {
        $chart
            .configure_mesh()
            .x_desc($plot.x)
            .y_desc($plot.y)
            .label_style((FONT, 13))
            .x_labels(6)
            .y_labels(6)
            .max_light_lines(1)
            .x_label_formatter(&|value| number(*value))
            .y_label_formatter(&|value| number(*value))
            .draw()?
    };
}
use draw_axes;

macro_rules! draw_series {
    ($chart:expr, $series:expr) => {{
        for (series, colour) in $series.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)).point_size(3);
            $chart
                .draw_series(line)?
                .label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        }
        $chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 13))
            .draw()?;
    }};
}
use draw_series;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_curves_and_axes() {
        for axes in [Axes::Neither, Axes::Across, Axes::Both] {
            let series = Series { name: "a curve".into(), points: vec![(1.0, 2.0), (10.0, 30.0)] };
            let plot = Plot { file: "x.svg", title: "t", x: "sockets", y: "ms", axes, series: vec![series] };
            let svg = plot.svg().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for word in ["a curve", "sockets", "ms"] {
                assert!(svg.contains(word), "{word}");
            }
        }
    }
}
