//! Contestants as people read them, and programs: which are here, in what version, and how to get the others.

use std::fmt::Write;

use super::format::plain;
use super::terminal::{BOLD, FAINT, Style, paint, wrap_at};
use crate::measure::{Absent, Contestant};

/// What was found out about one: its version, or why it cannot be measured here.
pub type Checked<'a> = (&'a Contestant, Result<String, Absent>);

/// What each is, and below it its version and settings, or what to do.
pub fn list(checked: &[Checked<'_>], style: Style) -> String {
    let style = Style { width: style.width.min(120), ..style };
    let mut out = String::new();
    for (contestant, found) in checked {
        let _ = writeln!(out, "{}: {}", paint(&plain(&contestant.label()), BOLD, style), plain(&contestant.title));
        let state = match found {
            Ok(version) => format!("available: {version}"),
            Err(why) => why.to_string(),
        };
        wrap_at(&mut out, &plain(&state), style, 2, 4);
        let mut settings = String::new();
        wrap_at(&mut settings, &plain(&contestant.settings), style, 2, 4);
        for line in settings.lines() {
            let _ = writeln!(out, "{}", paint(line, FAINT, style));
        }
    }
    let missing = checked.iter().filter(|(_, found)| found.is_err()).count();
    let _ = writeln!(out, "\n{} available, {missing} missing.", checked.len() - missing);
    out
}

/// As an array: what the file says and its `folder`, with `available`, and `found`: the version, or the reason.
pub fn json(checked: &[Checked<'_>]) -> String {
    let each = checked.iter().map(|(contestant, found)| {
        let mut value = serde_json::to_value(contestant).expect("plain fields");
        let text = found.as_ref().map_or_else(ToString::to_string, Clone::clone);
        value["folder"] = contestant.folder.to_string_lossy().into();
        value["available"] = found.is_ok().into();
        value["found"] = text.into();
        value
    });
    serde_json::to_string_pretty(&each.collect::<Vec<_>>()).expect("plain values") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_listed_with_what_to_do() {
        let text = "name = 'mine'\nclass = 'own'\ntitle = 'Mine'\nsettings = 'One thread.'\nneeds = 'libmine-dev'\n\
                    version = ['./no/such']\nbuild = ['make', 'mine']\nrun = ['./no/such', '{addr}']\n";
        let mine = Contestant::parse(text, "mine.toml").expect("well-formed");
        let checked = [(&mine, mine.check())];
        let listed = list(&checked, Style::default());
        for words in ["mine (own): Mine", "missing: ./no/such is not there", "`make mine`", "libmine-dev", "1 missing"]
        {
            assert!(listed.contains(words), "{words:?} is missing: {listed}");
        }
        let value: serde_json::Value = serde_json::from_str(&json(&checked)).expect("JSON");
        assert_eq!((&value[0]["name"], &value[0]["available"]), (&"mine".into(), &false.into()), "{value}");
        assert_eq!(value[0]["folder"], ".", "commands run there");
    }
}
