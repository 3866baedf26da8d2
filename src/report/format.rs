//! Numbers as a reader writes them, and foreign strings made harmless.

/// Digits in groups of three: `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits and no exponent: `0.0123`, `8.10`, `94.2`, `1,230`.
pub(super) fn three_digits(number: f64) -> String {
    if !number.is_finite() {
        return "–".to_owned();
    }
    if number.abs() >= 99.95 {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}{}", grouped(number.abs().round() as u64));
    }
    let places = match number.abs() {
        0.0 => 0,
        below_ten if below_ten < 9.995 => (2 - below_ten.log10().floor() as i32).clamp(2, 6) as usize,
        _ => 1,
    };
    format!("{number:.places$}")
}

/// Nanoseconds as microseconds.
pub(super) fn micros(nanoseconds: f64) -> String {
    three_digits(nanoseconds / 1_000.0)
}

/// What every file system, and every address, takes for a name: `poll-x2-shared-5000-idle`.
pub(super) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.replace('%', "percent").replace('×', "x").replace(',', "").chars().take(150) {
        match c.to_ascii_lowercase() {
            c if c.is_ascii_alphanumeric() => slug.push(c),
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    slug.trim_end_matches('-').to_owned()
}

/// A factor: `0.99×`, `1.00×`, `26.4×`.
pub(super) fn factor(ratio: f64) -> String {
    if ratio < 1.0 { format!("{ratio:.2}×") } else { format!("{}×", three_digits(ratio)) }
}

/// A share as a percentage: `3.1 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A text on one line that no terminal takes for a command.
pub(super) fn plain(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A text inside an element or attribute of HTML or SVG.
pub(super) fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Neither a control character nor these two may stand in XML, however they are written.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c if c.is_control() && c != '\n' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text inside a line or table cell of Markdown.
pub(super) fn markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in plain(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A command line that a POSIX shell reads back as these arguments.
pub(super) fn shell(arguments: &[String]) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    let quote = |argument: &String| match argument.is_empty() || !argument.chars().all(harmless) {
        true => format!("'{}'", argument.replace('\'', r"'\''")),
        false => argument.clone(),
    };
    arguments.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_and_never_an_exponent() {
        let cases = [
            (0.0, "0"),
            (0.012_34, "0.0123"),
            (0.5, "0.500"),
            (8.1, "8.10"),
            (9.999, "10.0"),
            (94.24, "94.2"),
            (99.97, "100"),
            (1_234.4, "1,234"),
            (12_345_678.0, "12,345,678"),
            (-0.037, "-0.0370"),
            (f64::NAN, "–"),
        ];
        for (number, text) in cases {
            assert_eq!(three_digits(number), text);
        }
        assert_eq!((grouped(0), grouped(999), grouped(1_000)), ("0".into(), "999".into(), "1,000".into()));
    }

    #[test]
    fn a_name_has_nothing_that_could_lead_elsewhere() {
        assert_eq!(slug("poll ×2, 5,000 idle: 50 % of capacity"), "poll-x2-5000-idle-50-percent-of-capacity");
        assert_eq!((slug("../../etc/passwd\0"), slug("·")), ("etc-passwd".to_owned(), String::new()));
    }

    #[test]
    fn nothing_foreign_passes_as_markup() {
        let bad = crate::report::sample::HOSTILE;
        assert!(!html(bad).contains(['<', '"', '\'', '\u{1b}']));
        assert_eq!(html("\u{ffff}\u{fffe}\u{fffd}é"), "\u{fffd}\u{fffd}\u{fffd}é", "XML has no such characters");
        assert!(!plain(bad).contains(['\n', '\u{1b}']));
        let escaped = markdown(bad);
        assert!(!escaped.contains(['<', '\n']) && escaped.contains("\\|") && !escaped.replace("\\|", "").contains('|'));
    }

    #[test]
    fn a_shell_reads_its_arguments_back() {
        let arguments = ["pollmark", "--out", "my results", "it's", ""].map(str::to_owned);
        assert_eq!(shell(&arguments), r"pollmark --out 'my results' 'it'\''s' ''");
    }
}
