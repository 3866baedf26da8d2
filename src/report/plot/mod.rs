//! Plots, as SVG that stands alone or inside a page, light or dark, with the data behind each in it.
//!
//! Written by hand and not with a plotting crate, because of what these plots need: text in the page's own colour,
//! a tick for 0 on a logarithmic axis, one colour and marker for each mechanism in every plot, values shown on
//! hovering, and what has no value shown, too.
//!
//! Nothing in them asks for a script; what a script may use is in `data-` attributes: `data-row` says of which row of the
//! summary something is, `data-v` the values it stands for.

mod axis;
mod bars;
mod grid;
mod lines;
mod look;
mod numbers;

pub(super) use bars::{Bar, Bars};
pub(super) use grid::{Grid, Square};
pub(super) use lines::{Gap, Lines, Point, Reading, Series};
pub(super) use look::Look;
pub(super) use numbers::{Numbers, Value};

use super::format::{html as escape, plain};

/// One plot, however it is drawn.
#[derive(Clone, Debug)]
pub(super) enum Plot {
    /// Curves.
    Lines(Lines),
    /// A number for each two of something.
    Grid(Grid),
    /// Sums of parts.
    Bars(Bars),
}

/// Plots that are looked at together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) title: String,
    /// How they are to be read.
    pub(super) note: String,
    pub(super) plots: Vec<Plot>,
}

/// A group as it is shown: its plots, each with its picture. Drawn once, whoever shows it.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) title: String,
    pub(super) note: String,
    pub(super) plots: Vec<(Plot, String)>,
}

impl Group {
    /// Each plot with its picture. Those of one group have the same scales, so that the eye may compare them. A plot
    /// without anything to draw is left out.
    pub(super) fn draw(self) -> Drawn {
        let lines =
            || self.plots.iter().filter_map(|plot| if let Plot::Lines(lines) = plot { Some(lines) } else { None });
        let scales = lines::Scales::over(lines());
        let drawn = |plot: &Plot| match plot {
            Plot::Lines(lines) => scales.map_or_else(String::new, |scales| lines.render(&scales)),
            Plot::Grid(grid) => grid.render(),
            Plot::Bars(bars) => bars.render(),
        };
        let pictures = self.plots.iter().map(drawn).collect::<Vec<_>>();
        let plots = self.plots.into_iter().zip(pictures).filter(|(_, picture)| !picture.is_empty()).collect();
        Drawn { title: self.title, note: self.note, plots }
    }
}

impl Plot {
    pub(super) fn title(&self) -> &str {
        match self {
            Plot::Lines(lines) => &lines.title,
            Plot::Grid(grid) => &grid.title,
            Plot::Bars(bars) => &bars.title,
        }
    }

    /// What it draws, as a reader wants it: three digits, and beside one another what is compared. To the last digit it is
    /// in the picture.
    pub(super) fn table(&self) -> Numbers {
        match self {
            Plot::Lines(lines) => lines.table(),
            Plot::Grid(grid) => grid.table(),
            Plot::Bars(bars) => bars.table(),
        }
    }
}

/// The beginning of a picture: its size, its name, and its data as `<metadata>`.
fn begin(class: &str, (width, height): (f64, f64), title: &str, attributes: &str, numbers: &Numbers) -> String {
    let title = plain(title);
    // A long one is smaller rather than cut off: of a bold letter that is as wide as any font has it.
    let room = (width - 16.0) / (title.chars().count() as f64 * 0.6);
    let (title, large) = (escape(&title), (room.clamp(8.0, 15.0) * 10.0).floor() / 10.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot {class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         aria-label=\"{title}\" font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"currentColor\"{attributes}>\n\
         <metadata>{}</metadata>\n\
         <text x=\"8\" y=\"18\" font-size=\"{large}\" font-weight=\"600\">{title}</text>\n",
        escape(&numbers.csv()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_that_has_no_room_is_smaller_and_a_short_one_is_as_always() {
        let size = |letters: usize| {
            let begun = begin("bars", (560.0, 90.0), &"x".repeat(letters), "", &Numbers::default());
            let size = begun.split("y=\"18\" font-size=\"").nth(1).and_then(|rest| rest.split('"').next());
            size.expect("a title").parse::<f64>().expect("a number")
        };
        assert_eq!([size(0), size(60), size(10_000)], [15.0, 15.0, 8.0]);
        assert!((10.0..11.0).contains(&size(85)), "{}", size(85));
    }
}
