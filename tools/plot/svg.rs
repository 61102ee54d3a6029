//! Drawing the picture: one self-contained SVG, readable on light and on dark ground, without scripts or fonts of its own.
//!
//! Colours follow the reader's scheme through a style sheet inside the file; greys and lines are chosen so that they
//! read on both grounds where the sheet is ignored. Each line carries its name at its end, so there is no legend.

use crate::Point;
use crate::grouped::grouped;
use std::fmt::Write;

const PANEL: f64 = 310.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 4.0;
const TOP: f64 = 64.0;
const HEIGHT: f64 = 300.0;
const BOTTOM: f64 = 76.0;
/// Space between panels, for the names at the ends of the lines.
const GAP: f64 = 142.0;

/// Least distance between two names.
const LINE: f64 = 15.0;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;fill:#57606a}\
.title{font-size:15px;font-weight:600;fill:#24292f}\
.panel{font-size:13px;font-weight:600;fill:#24292f}\
.grid{stroke:#8c959f;stroke-opacity:.3;stroke-width:1}\
path{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}\
.naive{stroke:#d1542b}.remerge{stroke:#9a6fd0}.incremental{stroke:#1f8f5f;stroke-width:3.2}\
.f-naive{fill:#d1542b}.f-remerge{fill:#9a6fd0}.f-incremental{fill:#1f8f5f}\
text.f-naive,text.f-remerge,text.f-incremental{font-weight:600}\
text.f-naive{fill:#b3431f}text.f-remerge{fill:#7a4fb5}text.f-incremental{fill:#13704a}\
circle.hollow{fill:#fff;stroke-width:2}@media (prefers-color-scheme:dark){text{fill:#9aa4af}.title,.panel{fill:#e6edf3}circle.hollow{fill:#0d1117}\
.naive{stroke:#ff8a5c}.remerge{stroke:#c4a0f5}.incremental{stroke:#3fca8c}\
.f-naive,text.f-naive{fill:#ff8a5c}.f-remerge,text.f-remerge{fill:#c4a0f5}.f-incremental,text.f-incremental{fill:#3fca8c}}";

/// A logarithmic axis: values `from..to` onto pixels `start..end`.
struct Axis {
    from: f64,
    to: f64,
    start: f64,
    end: f64,
}

impl Axis {
    fn at(&self, value: f64) -> f64 {
        let share = (value / self.from).ln() / (self.to / self.from).ln();
        self.start + share * (self.end - self.start)
    }
}

/// The picture of `points`, which are ordered by keys, engine and ratio and are at least one.
pub fn draw(points: &[Point]) -> String {
    let mut keys: Vec<u64> = points.iter().map(|p| p.keys).collect();
    keys.dedup();
    let mut ratios: Vec<u64> = points.iter().map(|p| p.ratio).collect();
    ratios.sort_unstable();
    ratios.dedup();
    let times = || points.iter().map(Point::per_element);
    let least = times().fold(f64::INFINITY, f64::min);
    let most = times().fold(0.0, f64::max);
    // Decades that hold all times, one at least.
    let (low, high) = ((least.log10() + 0.02).floor() as i32, (most.log10() - 0.02).ceil() as i32);
    let high = high.max(low + 1);
    let y = Axis { from: 10f64.powi(low), to: 10f64.powi(high), start: TOP + HEIGHT, end: TOP };
    let width = LEFT + keys.len() as f64 * (PANEL + GAP) - GAP + GAP + RIGHT;
    let height = TOP + HEIGHT + BOTTOM;

    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">Time per record and row over window/slide</title>\n\
         <desc id=\"d\">{}</desc>\n<style>{STYLE}</style>",
        description(points)
    );
    text(&mut out, (12.0, 22.0), "title", "start", "Time per record in and row out, one thread");
    for (panel, keys) in keys.iter().enumerate() {
        let left = LEFT + panel as f64 * (PANEL + GAP);
        let last = ratios.last().copied().unwrap_or(1).max(2) as f64;
        let x = Axis { from: 1.0, to: last, start: left + 12.0, end: left + PANEL - 12.0 };
        text(&mut out, (left, TOP - 14.0), "panel", "start", &format!("{} keys", grouped(*keys)));
        for power in low..=high {
            let at = y.at(10f64.powi(power));
            line(&mut out, (left, at), (left + PANEL, at));
            if panel == 0 {
                text(&mut out, (left - 8.0, at + 4.0), "", "end", &nanos(power));
            }
        }
        for ratio in &ratios {
            let at = x.at(*ratio as f64);
            line(&mut out, (at, TOP), (at, TOP + HEIGHT));
            text(&mut out, (at, TOP + HEIGHT + 18.0), "", "middle", &grouped(*ratio));
        }
        text(&mut out, (left + PANEL / 2.0, TOP + HEIGHT + 40.0), "", "middle", "slides per window");
        let panel: Vec<&Point> = points.iter().filter(|p| p.keys == *keys).collect();
        lines(&mut out, &panel, &x, &y);
    }
    let note =
        "hollow: measured on a thinner stream than the incremental engine, with more rows per record, which flatters";
    text(&mut out, (LEFT, height - 10.0), "", "start", note);
    out.push_str("</svg>\n");
    out
}

/// One line of a panel: where its points stand, and the time at the last one.
struct Engine<'a> {
    name: &'a str,
    places: Vec<Place>,
    last: f64,
}

struct Place {
    x: f64,
    y: f64,
    /// Measured on a thinner stream.
    thin: bool,
}

/// The lines of one panel, and their names.
fn lines(out: &mut String, points: &[&Point], x: &Axis, y: &Axis) {
    // Whether fewer records than the incremental engine had were all that this one could take.
    let thin = |point: &Point| {
        let full = points.iter().find(|p| p.engine == "incremental" && p.ratio == point.ratio);
        full.is_some_and(|full| point.elements < full.elements)
    };
    let mut engines: Vec<Engine<'_>> = Vec::new();
    for point in points {
        let at = Place { x: x.at(point.ratio as f64), y: y.at(point.per_element()), thin: thin(point) };
        match engines.iter_mut().find(|engine| engine.name == point.engine) {
            Some(engine) => {
                engine.places.push(at);
                engine.last = point.per_element();
            }
            None => engines.push(Engine { name: &point.engine, places: vec![at], last: point.per_element() }),
        }
    }
    // Incremental is drawn last, on top.
    engines.sort_by_key(|engine| (engine.name == "incremental", engine.name));
    for Engine { name, places, .. } in &engines {
        let path: Vec<String> = places.iter().map(|at| format!("{:.1} {:.1}", at.x, at.y)).collect();
        let _ = writeln!(out, "<path class=\"{name}\" d=\"M{}\"/>", path.join("L"));
        for Place { x, y, thin } in places {
            let class = if *thin { format!("{name} hollow") } else { format!("f-{name}") };
            let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.6\"/>");
        }
    }
    // Names stand at the height of the last point, moved down where they would touch.
    let mut names: Vec<(f64, f64, &Engine<'_>)> =
        engines.iter().filter_map(|engine| engine.places.last().map(|at| (at.y, at.x, engine))).collect();
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Start high enough that the last name stays above the axis.
    let mut floor = y.start - LINE * names.len() as f64;
    let mut next = f64::NEG_INFINITY;
    for (at, x, Engine { name, last, .. }) in names {
        floor += LINE;
        next = at.min(floor).max(next);
        text(out, (x + 10.0, next + 4.0), &format!("f-{name}"), "start", &format!("{name} {}", short(*last)));
        next += LINE;
    }
}

fn text(out: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, words: &str) {
    let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
    let _ = writeln!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"{class}>{words}</text>");
}

fn line(out: &mut String, from: (f64, f64), to: (f64, f64)) {
    let _ = writeln!(
        out,
        "<line class=\"grid\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
        from.0, from.1, to.0, to.1
    );
}

/// What the picture says, in words.
fn description(points: &[Point]) -> String {
    let mut words = Vec::new();
    for (i, point) in points.iter().enumerate() {
        let last = points.get(i + 1).is_none_or(|next| next.engine != point.engine || next.keys != point.keys);
        if last {
            let (keys, slides, time) = (grouped(point.keys), grouped(point.ratio), short(point.per_element()));
            words.push(format!("{keys} keys, {slides} slides per window, {}: {time}", point.engine));
        }
    }
    words.join("; ")
}

/// A power of ten of nanoseconds.
fn nanos(power: i32) -> String {
    match power {
        ..0 => format!("{} ns", 10f64.powi(power)),
        0..3 => format!("{} ns", grouped(10u64.pow(power as u32))),
        3..6 => format!("{} µs", grouped(10u64.pow(power as u32 - 3))),
        _ => format!("{} ms", grouped(10u64.pow(power as u32 - 6))),
    }
}

/// `12 ns`, `1.5 µs`.
fn short(nanos: f64) -> String {
    let (value, unit) = if nanos < 1e3 { (nanos, "ns") } else { (nanos / 1e3, "µs") };
    if value < 10.0 { format!("{value:.1} {unit}") } else { format!("{value:.0} {unit}") }
}
