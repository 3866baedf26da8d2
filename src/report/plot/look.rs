//! How a mechanism is drawn, everywhere: one colour and marker for each family, one dash for each variant of it.

use std::fmt::Write;

/// The look of one mechanism.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Look {
    pub(super) colour: &'static str,
    marker: char,
    dash: &'static str,
}

/// After Okabe and Ito, told apart with any colour vision; darkened where needed for 3:1 on white and on near-black.
const FAMILIES: [(&str, &str, char); 8] = [
    ("epoll", "#2b7bba", 'o'),
    ("kqueue", "#2f9fb8", 'D'),
    ("poll", "#d55e00", 's'),
    ("select", "#b8860b", '^'),
    ("polling", "#009e73", 'v'),
    ("threads", "#b8629a", 'x'),
    ("uring", "#7a6fd0", '+'),
    ("completion", "#808080", 'D'),
];
const OTHERS: [(&str, char); 3] = [("#8c6d46", 's'), ("#6b8e23", '^'), ("#a0522d", 'o')];

impl Look {
    /// The look of a mechanism; `place` is its place among the rows and decides only for families unknown here.
    pub(in super::super) fn of(mechanism: &str, control: bool, place: usize) -> Look {
        // "epoll-edge" is of the family epoll, "polling" is not of the family poll.
        let family = mechanism.split('-').next().unwrap_or(mechanism);
        let known = FAMILIES.iter().find(|(name, _, _)| *name == family).map(|(_, colour, marker)| (*colour, *marker));
        let (colour, marker) = known.unwrap_or(OTHERS[place % OTHERS.len()]);
        let dash = match mechanism.rsplit_once('-').map(|(_, variant)| variant) {
            _ if control => "1 4",
            Some("edge") => "8 3",
            Some("oneshot") => "4 3",
            Some(_) => "10 3 2 3",
            None => "",
        };
        Look { colour, marker, dash }
    }

    /// A small picture of it, for a table: refers to its [symbol](Look::symbol), which stands elsewhere in the page.
    pub(in super::super) fn swatch(self) -> String {
        format!(r##"<svg class="swatch" aria-hidden="true"><use href="#{}"/></svg>"##, self.id())
    }

    /// What it is referred to by: the same for all that look alike.
    pub(in super::super) fn id(self) -> String {
        let marker = match self.marker {
            '^' => "up",
            '+' => "plus",
            'D' => "diamond",
            'x' => "cross",
            'v' => "down",
            's' => "square",
            _ => "dot",
        };
        format!("look-{}-{marker}-{}", self.colour.trim_start_matches('#'), self.dash.replace(' ', "-"))
    }

    /// The small picture itself.
    pub(in super::super) fn symbol(self) -> String {
        let (id, paint) = (self.id(), self.paint());
        let mut out =
            format!(r#"<symbol id="{id}" viewBox="0 0 28 12"><g {paint}><path d="M1 6H27"{}/>"#, self.dashed());
        let _ = write!(out, r#"<g transform="translate(14 6)">{}</g></g></symbol>"#, self.mark(false));
        out
    }

    /// What whatever is drawn for it inherits: its colour.
    pub(super) fn paint(self) -> String {
        format!(r#"stroke="{0}" fill="{0}" stroke-width="1.6""#, self.colour)
    }

    pub(super) fn dashed(self) -> String {
        match self.dash {
            "" => String::new(),
            dash => format!(r#" stroke-dasharray="{dash}""#),
        }
    }

    /// Its marker around the origin.
    pub(super) fn mark(self, faint: bool) -> String {
        format!(r#"<path d="M0 0{}"{}/>"#, self.outline(), self.filling(faint))
    }

    /// Its marker around wherever the path has come to.
    pub(super) fn outline(self) -> &'static str {
        match self.marker {
            's' => "m-3.5 -3.5h7v7h-7z",
            '^' => "m0 -4.6l4.4 7.4h-8.8z",
            'v' => "m0 4.6l4.4 -7.4h-8.8z",
            'D' => "m0 -4.6l4.6 4.6l-4.6 4.6l-4.6 -4.6z",
            'x' => "m-3.5 -3.5l7 7m0 -7l-7 7",
            '+' => "m-4.5 0h9m-4.5 -4.5v9",
            _ => "m-3.8 0a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0 -7.6 0z",
        }
    }

    /// Whether it is filled: a hollow one says that the value is not the row's own.
    pub(super) fn filling(self, faint: bool) -> &'static str {
        if faint || matches!(self.marker, 'x' | '+') { r#" fill="none""# } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_its_familys_colour_and_a_line_of_its_own() {
        let [plain, edge, twin] =
            [Look::of("epoll", false, 0), Look::of("epoll-edge", false, 1), Look::of("epoll", true, 2)];
        assert_eq!((plain.colour, plain.colour), (edge.colour, twin.colour));
        assert!(plain.dash != edge.dash && plain.dash != twin.dash && edge.dash != twin.dash);
        assert_ne!(Look::of("polling", false, 0).colour, Look::of("poll", false, 0).colour);
    }

    #[test]
    fn no_two_families_look_alike() {
        let looks = FAMILIES.map(|(name, ..)| Look::of(name, false, 0));
        for (at, look) in looks.iter().enumerate() {
            assert!(looks[at + 1..].iter().all(|other| other.colour != look.colour), "{look:?}");
        }
    }
}
