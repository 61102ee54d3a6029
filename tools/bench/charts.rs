//! Two kinds of pictures as self-contained SVG, readable on light and on dark ground: lines over logarithmic axes, and dots
//! in rows on a logarithmic axis.

use std::fmt::Write;

/// Colours that tell eight lines apart on both grounds, and without red against green.
const COLOURS: [&str; 8] = ["#1f8f5f", "#d1542b", "#3b7dd8", "#9a6fd0", "#c79a1e", "#4fa3a8", "#c2518b", "#7a7f87"];

const STYLE: &str = "text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#57606a}\
.title{font-size:15px;font-weight:600;fill:#24292f}.grid{stroke:#8c959f;stroke-opacity:.3}\
path{fill:none;stroke-width:2.2;stroke-linejoin:round}\
@media (prefers-color-scheme:dark){text{fill:#9aa4af}.title{fill:#e6edf3}}";

/// A line: its name and its points.
pub struct Line {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A logarithmic axis from pixel to pixel, over whole decades.
struct Axis {
    low: i32,
    high: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Axis {
        let least = values.clone().fold(f64::INFINITY, f64::min).max(1e-9);
        let most = values.fold(least, f64::max);
        let low = least.log10().floor() as i32;
        let high = (most.log10().ceil() as i32).max(low + 1);
        Axis { low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.max(1e-9).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low..=self.high).map(|power| 10f64.powi(power))
    }
}

/// `1,000`, `0.01`.
fn number(value: f64) -> String {
    if value < 1.0 { format!("{value}") } else { crate::table::grouped(value.round() as u64) }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn text(out: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, words: &str) {
    let words = escape(words);
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{words}</text>");
}

fn rule(out: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(out, "<line class=\"grid\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>");
}

fn open(width: f64, height: f64, title: &str) -> String {
    let words = escape(title);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{words}\">\n<style>{STYLE}</style>\n"
    );
    text(&mut out, (12.0, 22.0), "start", "title", title);
    out
}

/// Lines over two logarithmic axes; the names stand at the ends of the lines.
pub fn lines(title: &str, x_name: &str, y_name: &str, all: &[Line]) -> String {
    let (left, right, top, bottom) = (70.0, 520.0, 64.0, 340.0);
    let points = || all.iter().flat_map(|line| line.points.iter());
    let x = Axis::over(points().map(|p| p.0), left + 8.0, right - 8.0);
    let y = Axis::over(points().map(|p| p.1), bottom, top);
    let mut out = open(720.0, 400.0, title);
    text(&mut out, (12.0, 46.0), "start", "", y_name);
    for value in y.decades() {
        rule(&mut out, (left, y.at(value)), (right, y.at(value)));
        text(&mut out, (left - 8.0, y.at(value) + 4.0), "end", "", &number(value));
    }
    for value in x.decades() {
        rule(&mut out, (x.at(value), top), (x.at(value), bottom));
        text(&mut out, (x.at(value), bottom + 18.0), "middle", "", &number(value));
    }
    text(&mut out, ((left + right) / 2.0, bottom + 42.0), "middle", "", x_name);
    let mut names: Vec<(f64, f64, usize)> = Vec::new();
    for (i, line) in all.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let path: Vec<String> = line.points.iter().map(|p| format!("{:.1} {:.1}", x.at(p.0), y.at(p.1))).collect();
        let _ = writeln!(out, "<path stroke=\"{colour}\" d=\"M{}\"/>", path.join("L"));
        for (a, b) in &line.points {
            let _ =
                writeln!(out, "<circle fill=\"{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>", x.at(*a), y.at(*b));
        }
        if let Some((a, b)) = line.points.last() {
            names.push((y.at(*b), x.at(*a), i));
        }
    }
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut next = f64::NEG_INFINITY;
    for (at, end, i) in names {
        next = at.max(next);
        let (name, colour) = (escape(&all[i].name), COLOURS[i % COLOURS.len()]);
        let (end, at) = (end + 10.0, next + 4.0);
        let _ =
            writeln!(out, "<text x=\"{end:.1}\" y=\"{at:.1}\" style=\"fill:{colour};font-weight:600\">{name}</text>");
        next += 15.0;
    }
    out + "</svg>\n"
}

/// One row of dots for each name, on one logarithmic axis; `series` name the dots.
pub fn dots(title: &str, x_name: &str, series: &[String], rows: &[(String, Vec<(usize, f64)>)]) -> String {
    let (left, right, top, step) = (80.0, 700.0, 84.0, 26.0);
    let bottom = top + step * rows.len() as f64;
    let x = Axis::over(rows.iter().flat_map(|row| row.1.iter().map(|dot| dot.1)), left + 8.0, right - 8.0);
    let mut out = open(720.0, bottom + 50.0, title);
    for (i, name) in series.iter().enumerate() {
        let (at, colour) = (left + 90.0 * (i % 7) as f64, COLOURS[i % COLOURS.len()]);
        let line = 44.0 + 16.0 * (i / 7) as f64;
        let _ = writeln!(out, "<circle fill=\"{colour}\" cx=\"{at:.1}\" cy=\"{line:.1}\" r=\"5\"/>");
        text(&mut out, (at + 9.0, line + 4.0), "start", "", name);
    }
    for value in x.decades() {
        rule(&mut out, (x.at(value), top), (x.at(value), bottom));
        text(&mut out, (x.at(value), bottom + 18.0), "middle", "", &number(value));
    }
    text(&mut out, ((left + right) / 2.0, bottom + 40.0), "middle", "", x_name);
    for (i, (name, dots)) in rows.iter().enumerate() {
        let y = top + step * (i as f64 + 0.5);
        rule(&mut out, (left, y), (right, y));
        text(&mut out, (left - 10.0, y + 4.0), "end", "", name);
        // The first series is drawn last, on top.
        for (series, value) in dots.iter().rev() {
            let colour = COLOURS[series % COLOURS.len()];
            let _ = writeln!(out, "<circle fill=\"{colour}\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"5\"/>", x.at(*value));
        }
    }
    out + "</svg>\n"
}
