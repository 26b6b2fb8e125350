//! Training curves: a few charts in one picture.

use std::ops::Range;
use std::sync::LazyLock;

use anyhow::{Result, anyhow};
use image::RgbImage;
use image::imageops::overlay;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::palette::{self, INK, color};
use super::shapes::{self, Rect};
use super::text::{FONT, Text};

const WIDTH: u32 = 620;
const HEIGHT: u32 = 400;
/// The strip below the plot for the name of the x axis.
const X_LABEL: u32 = 28;
/// A curve of more points is drawn by means over as many stretches: noise would fill the chart.
const MOST_POINTS: usize = 300;
/// Up to as many points, each is marked.
const MOST_MARKS: usize = 40;
const FAMILY: &str = "mdetr";

static REGISTERED: LazyLock<bool> = LazyLock::new(|| register_font(FAMILY, FontStyle::Normal, FONT).is_ok());

/// A chart: curves over a common x axis.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// The heading.
    pub title: String,
    /// What the x axis counts, such as `epoch`.
    pub x_label: String,
    /// The curves, in the order of their colours.
    pub curves: Vec<Curve>,
}

/// A curve of a chart.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// (x, y), in the order of x. Points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// Draws `charts` in rows of `columns` (at least one). A chart without points says so.
///
/// # Errors
/// If the plotting library fails.
pub fn curves(charts: &[Chart], columns: usize) -> Result<RgbImage> {
    let columns = columns.clamp(1, charts.len().max(1)) as u32;
    let rows = (charts.len().max(1) as u32).div_ceil(columns);
    let mut out = RgbImage::from_pixel(columns * WIDTH, rows * HEIGHT, palette::WHITE);
    for (i, chart) in charts.iter().enumerate() {
        let picture = draw_chart(chart)?;
        let (x, y) = (i as u32 % columns * WIDTH, i as u32 / columns * HEIGHT);
        overlay(&mut out, &picture, i64::from(x), i64::from(y));
    }
    Ok(out)
}

/// Draws a heading and a legend, and the plot below.
fn draw_chart(chart: &Chart) -> Result<RgbImage> {
    let mut image = RgbImage::from_pixel(WIDTH, HEIGHT, palette::WHITE);
    Text::line(&chart.title, 22.0).draw(&mut image, 18.0, 10.0, |_| INK);
    let top = draw_legend(&mut image, chart, 42.0);

    let curves: Vec<Vec<(f64, f64)>> = chart.curves.iter().map(|curve| thinned(&curve.points)).collect();
    let all = || curves.iter().flatten().copied();
    match (range(all().map(|(x, _)| x), 0.015), range(all().map(|(_, y)| y), 0.06)) {
        (Some(xs), Some(ys)) => {
            let mut plot = RgbImage::new(WIDTH, HEIGHT - top - X_LABEL);
            draw_plot(&mut plot, &curves, xs, ys).map_err(|error| anyhow!("curves {:?}: {error}", chart.title))?;
            overlay(&mut image, &plot, 0, i64::from(top));
            let label = Text::line(&chart.x_label, 18.0);
            let left = (WIDTH as f32 - label.width()) / 2.0 + 20.0; // the middle of the axis
            label.draw(&mut image, left, (HEIGHT - X_LABEL) as f32 - 6.0, |_| INK);
        }
        _ => Text::line("no points yet", 18.0).draw(&mut image, 18.0, top as f32 + 20.0, |_| color(6)),
    }
    Ok(image)
}

/// Draws a swatch and the name of each curve, in as many rows as it takes, from `top` on; returns where it ends.
fn draw_legend(image: &mut RgbImage, chart: &Chart, top: f32) -> u32 {
    let (mut x, mut y) = (20.0, top);
    for (i, curve) in chart.curves.iter().enumerate() {
        let text = Text::line(&curve.name, 17.0);
        let width = 26.0 + text.width() + 22.0;
        if x > 20.0 && x + width > WIDTH as f32 {
            (x, y) = (20.0, y + text.height());
        }
        let swatch = Rect { left: x, right: x + 20.0, top: y + 10.0, bottom: y + 14.0 };
        shapes::fill(image, &swatch, color(i));
        text.draw(image, x + 26.0, y, |_| INK);
        x += width;
    }
    (y as u32 + 30).min(HEIGHT / 2)
}

fn draw_plot(plot: &mut RgbImage, curves: &[Vec<(f64, f64)>], xs: Range<f64>, ys: Range<f64>) -> Result<()> {
    anyhow::ensure!(*REGISTERED, "the embedded font does not parse");
    let size = plot.dimensions();
    let area = BitMapBackend::with_buffer(plot, size).into_drawing_area();
    area.fill(&WHITE)?;
    let [x_span, y_span] = [&xs, &ys].map(|range| range.end - range.start);
    let mut context = ChartBuilder::on(&area)
        .margin(12)
        .margin_right(24)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(xs, ys)?;
    let ink = RGBColor(INK.0[0], INK.0[1], INK.0[2]);
    context
        .configure_mesh()
        .x_labels(8)
        .y_labels(7)
        .max_light_lines(0)
        .bold_line_style(RGBColor(226, 228, 232))
        .axis_style(RGBColor(140, 144, 150))
        .label_style((FAMILY, 17).into_font().color(&ink))
        .x_label_formatter(&|v| tick(*v, x_span))
        .y_label_formatter(&|v| tick(*v, y_span))
        .draw()?;
    for (i, points) in curves.iter().enumerate() {
        let [r, g, b] = color(i).0;
        let style = RGBColor(r, g, b).stroke_width(2);
        context.draw_series(LineSeries::new(points.iter().copied(), style))?;
        if points.len() <= MOST_MARKS {
            context.draw_series(points.iter().map(|&point| Circle::new(point, 4, style.filled())))?;
        }
    }
    area.present()?;
    Ok(())
}

/// The points that can be drawn; if they are many, the mean of each of [`MOST_POINTS`] stretches.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let drawable = |v: f64| v.abs() < 1e30; // false for NaN too
    let points: Vec<_> = points.iter().copied().filter(|&(x, y)| drawable(x) && drawable(y)).collect();
    let mean = |stretch: &[(f64, f64)]| {
        let (x, y) = stretch.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
        (x / stretch.len() as f64, y / stretch.len() as f64)
    };
    points.chunks(points.len().div_ceil(MOST_POINTS).max(1)).map(mean).collect()
}

/// The range of `values`, grown by the part `margin` of itself; a range around a constant is not empty.
fn range(values: impl Iterator<Item = f64> + Clone, margin: f64) -> Option<Range<f64>> {
    let (low, high) = (values.clone().reduce(f64::min)?, values.reduce(f64::max)?);
    let magnitude = low.abs().max(high.abs());
    let grow = match high - low {
        span if span > 1e-6 * magnitude => margin * span,
        _ if magnitude > 1e-12 => 0.1 * magnitude,
        _ => 1.0,
    };
    Some(low - grow..high + grow)
}

/// A number beside an axis of that span: as short as it can be told. What is left of steps that add up to 0 is 0.
fn tick(value: f64, span: f64) -> String {
    let value = if value.abs() < 1e-9 * span { 0.0 } else { value };
    let shorten = |digits: &str| digits.trim_end_matches('0').trim_end_matches('.').to_owned();
    let scientific = format!("{value:.2e}");
    if let Some((digits, exponent)) = scientific.split_once('e')
        && value != 0.0
        && !(1e-3..1e5).contains(&value.abs())
    {
        return format!("{}e{exponent}", shorten(digits));
    }
    match format!("{value:.4}") {
        text if text.contains('.') && shorten(&text) != "-0" => shorten(&text),
        _ => "0".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ticks_are_short() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.5, "0.5"),
            (12.0, "12"),
            (1e-4, "1e-4"),
            (2.5e-5, "2.5e-5"),
            (1e6, "1e6"),
            (-0.25, "-0.25"),
            (-2.7e-20, "0"),
        ] {
            assert_eq!(tick(value, 1.0), expected);
        }
    }

    #[test]
    fn many_points_become_means_and_a_constant_has_a_range() {
        let points: Vec<(f64, f64)> = (0..3000).map(|i| (f64::from(i), f64::from(i % 10))).collect();
        let thin = thinned(&points);
        assert_eq!(thin.len(), 300);
        assert!(thin.iter().all(|&(_, y)| y == 4.5));
        for value in [0.0, 3.0, -1e-5] {
            let range = range([value].into_iter(), 0.05).unwrap();
            assert!(range.start < value && value < range.end);
        }
    }

    #[test]
    fn a_curve_is_drawn_in_the_colour_of_its_legend() {
        let curve = |y| Curve { name: "loss".into(), points: vec![(0.0, y), (10.0, y)] };
        let chart = Chart { title: "losses".into(), x_label: "epoch".into(), curves: vec![curve(1.0), curve(2.0)] };
        let image = curves(&[chart], 1).unwrap();
        assert_eq!(image.dimensions(), (WIDTH, HEIGHT));
        for i in 0..2 {
            let pixels = image.pixels().filter(|&&pixel| pixel == color(i)).count();
            assert!(pixels > 600, "curve {i}: {pixels} pixels");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_points_draw(
            values in prop::collection::vec(prop::collection::vec((any::<f64>(), any::<f64>()), 0..6), 0..3),
            name in "\\PC{0,40}",
            columns in 0..4_usize,
        ) {
            let curve = |points| Curve { name: name.clone(), points };
            let chart = Chart { title: name.clone(), x_label: name.clone(), curves: values.into_iter().map(curve).collect() };
            prop_assert!(curves(&[chart.clone(), chart], columns).is_ok());
        }
    }
}
