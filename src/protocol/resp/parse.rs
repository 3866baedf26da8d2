//! Where one command ends: the framing of RESP, an array of strings or a line of words, resumed where it stopped.

use std::fmt;
use std::ops::Range;

use super::Limits;
use crate::protocol::text::integer;

/// The longest line of words, as in Redis.
const LONGEST_LINE: usize = 64 * 1024;
/// The longest number there is has 20 characters.
const LONGEST_NUMBER: usize = 32;

/// How far an unfinished command was understood, so that one that comes byte by byte is not read from its beginning
/// each time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    /// Bytes of it.
    at: u32,
    /// Strings still to come: 0 in a line, and before the length of an array is known.
    left: u32,
}

/// What the input begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// A command of this many bytes, whose words are now in the [`Words`].
    Command(usize),
    /// An empty line or array of this many bytes.
    Nothing(usize),
    /// Not all of a command.
    Unfinished,
}

/// The words of one command. The room for them is the loop's, not the connection's.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    ranges: Vec<Range<u32>>,
    /// The words of a line with quotes, which are not in the input as they are meant.
    unquoted: Vec<u8>,
}

/// A command and its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command<'a> {
    text: &'a [u8],
    ranges: &'a [Range<u32>],
}

impl<'a> Command<'a> {
    /// How many words there are, of which the first is the command's name.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The word at `at`.
    ///
    /// # Panics
    /// If there are not so many.
    #[inline]
    pub(super) fn word(&self, at: usize) -> &'a [u8] {
        let Range { start, end } = self.ranges[at];
        &self.text[start as usize..end as usize]
    }

    /// The words from `at` on.
    pub(super) fn words(&self, at: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let text = self.text;
        let ranges = self.ranges.get(at..).unwrap_or_default();
        ranges.iter().map(|range| &text[range.start as usize..range.end as usize])
    }
}

impl Words {
    /// Finds the command `input` begins with.
    #[inline]
    pub(super) fn find(&mut self, input: &[u8], progress: &mut Progress, limits: &Limits) -> Result<Step, Violation> {
        let resumed = *progress != Progress::default();
        match input.first() {
            None => return Ok(Step::Unfinished),
            Some(b'*') => {}
            Some(_) => return self.find_line(input, progress),
        }
        self.ranges.clear();
        let step = self.find_array(input, progress, limits)?;
        if resumed && matches!(step, Step::Command(_)) {
            // Only the last words were found now: since the others were, somebody else has had the room.
            self.ranges.clear();
            return self.find_array(input, &mut Progress::default(), limits);
        }
        Ok(step)
    }

    /// What [`find`](Words::find) found in the same `input`.
    #[inline]
    pub(super) fn command<'a>(&'a self, input: &'a [u8]) -> Command<'a> {
        let text = if self.unquoted.is_empty() { input } else { &self.unquoted };
        Command { text, ranges: &self.ranges }
    }

    /// Gives back what one huge command took.
    pub(super) fn shrink(&mut self) {
        const ORDINARY: usize = 4_096;
        if self.ranges.capacity() > ORDINARY {
            self.ranges.clear();
            self.ranges.shrink_to(ORDINARY);
        }
        self.unquoted.clear();
        self.unquoted.shrink_to(ORDINARY);
    }

    fn find_array(&mut self, input: &[u8], progress: &mut Progress, limits: &Limits) -> Result<Step, Violation> {
        let Progress { at, mut left } = std::mem::take(progress);
        let mut at = at as usize;
        if left == 0 {
            let Some((count, next)) = number(input, 1, Violation::Count)? else { return Ok(Step::Unfinished) };
            if count <= 0 {
                return Ok(Step::Nothing(next));
            }
            left = u32::try_from(count).ok().filter(|count| *count <= limits.most_words).ok_or(Violation::Count)?;
            at = next;
        }
        self.unquoted.clear();
        while let Some(word) = string(input, at, limits)? {
            at = word.end + 2;
            // No command is longer than the limits allow, and those are 32 bits wide.
            self.ranges.push(word.start as u32..word.end as u32);
            left -= 1;
            if left == 0 {
                return Ok(Step::Command(at));
            }
        }
        *progress = Progress { at: at as u32, left };
        Ok(Step::Unfinished)
    }

    /// A line of words, as a person types it.
    #[inline]
    fn find_line(&mut self, input: &[u8], progress: &mut Progress) -> Result<Step, Violation> {
        let known = std::mem::take(progress).at as usize;
        let Some(end) = input[known..].iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') else {
            if input.len() >= LONGEST_LINE {
                return Err(Violation::LongLine);
            }
            progress.at = input.len() as u32;
            return Ok(Step::Unfinished);
        };
        let end = known + end;
        let line = &input[..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.ranges.clear();
        self.unquoted.clear();
        if line.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
            self.unquote(line)?;
        } else {
            let mut from = 0;
            while let Some(blanks) = line[from..].iter().position(|byte| !byte.is_ascii_whitespace()) {
                let start = from + blanks;
                let length = line[start..].iter().position(u8::is_ascii_whitespace);
                from = length.map_or(line.len(), |length| start + length);
                self.ranges.push(start as u32..from as u32);
            }
        }
        Ok(if self.ranges.is_empty() { Step::Nothing(end + 1) } else { Step::Command(end + 1) })
    }

    /// Words of which some are quoted, as a shell would: `'…'` with `\'`, `"…"` with `\n \r \t \a \b \xff` and `\`
    /// before any other character.
    #[cold]
    fn unquote(&mut self, line: &[u8]) -> Result<(), Violation> {
        let mut rest = line.trim_ascii();
        while let Some(first) = rest.first() {
            let start = self.unquoted.len();
            if matches!(first, b'"' | b'\'') {
                rest = self.unquote_word(&rest[1..], *first).ok_or(Violation::Quotes)?;
                // What follows a closing quote is a blank, or the end.
                if rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
                    return Err(Violation::Quotes);
                }
            } else {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                self.unquoted.extend_from_slice(&rest[..end]);
                rest = &rest[end..];
            }
            self.ranges.push(start as u32..self.unquoted.len() as u32);
            rest = rest.trim_ascii_start();
        }
        // Empty, it would mean that the words are in the input.
        self.unquoted.push(b'\n');
        Ok(())
    }

    /// Unquotes up to the closing `quote`; returns what follows it, if there is one.
    fn unquote_word<'a>(&mut self, mut rest: &'a [u8], quote: u8) -> Option<&'a [u8]> {
        let hex = |byte: u8| char::from(byte).to_digit(16);
        loop {
            let byte;
            (byte, rest) = match *rest {
                [end, ref rest @ ..] if end == quote => return Some(rest),
                [b'\\', b'\'', ref rest @ ..] if quote == b'\'' => (b'\'', rest),
                [b'\\', b'x', high, low, ref rest @ ..]
                    if quote == b'"' && hex(high).is_some() && hex(low).is_some() =>
                {
                    let value = hex(high).zip(hex(low)).map_or(0, |(high, low)| high * 16 + low);
                    (value as u8, rest)
                }
                [b'\\', escaped, ref rest @ ..] if quote == b'"' => (control(escaped), rest),
                [byte, ref rest @ ..] => (byte, rest),
                [] => return None,
            };
            self.unquoted.push(byte);
        }
    }
}

/// What `\` and this character mean between double quotes.
fn control(escaped: u8) -> u8 {
    match escaped {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        other => other,
    }
}

/// The number in the rest of the line from `at` on, and where the next line begins; `None` if the line is unfinished.
#[inline]
fn number(input: &[u8], at: usize, violation: Violation) -> Result<Option<(i64, usize)>, Violation> {
    let rest = &input[at..];
    let Some(length) = rest.iter().take(LONGEST_NUMBER).position(|byte| *byte == b'\r') else {
        return if rest.len() < LONGEST_NUMBER { Ok(None) } else { Err(violation) };
    };
    match rest.get(length + 1) {
        None => Ok(None),
        Some(b'\n') => integer(&rest[..length]).map(|number| Some((number, at + length + 2))).ok_or(violation),
        Some(_) => Err(violation),
    }
}

/// Where the string that begins at `at` has its content; `None` if it is unfinished.
#[inline]
fn string(input: &[u8], at: usize, limits: &Limits) -> Result<Option<Range<usize>>, Violation> {
    match input.get(at) {
        None => return Ok(None),
        Some(b'$') => {}
        Some(other) => return Err(Violation::Dollar(*other)),
    }
    let Some((length, start)) = number(input, at + 1, Violation::Length)? else { return Ok(None) };
    let length = usize::try_from(length).ok().filter(|length| *length <= limits.most_string as usize);
    let end = start + length.ok_or(Violation::Length)?;
    if end > limits.most_command as usize {
        return Err(Violation::LongCommand);
    }
    match input.get(end..end + 2) {
        None => Ok(None),
        Some(b"\r\n") => Ok(Some(start..end)),
        Some(_) => Err(Violation::End),
    }
}

/// What is no command. Nothing after it can be understood either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Violation {
    Count,
    Length,
    Dollar(u8),
    End,
    Quotes,
    LongLine,
    LongCommand,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Protocol error: ")?;
        match self {
            Violation::Count => f.write_str("invalid multibulk length"),
            Violation::Length => f.write_str("invalid bulk length"),
            Violation::Dollar(found) => write!(f, "expected '$', got '{}'", found.escape_ascii()),
            Violation::End => f.write_str("a string is longer than its length"),
            Violation::Quotes => f.write_str("unbalanced quotes in request"),
            Violation::LongLine => f.write_str("too big inline request"),
            Violation::LongCommand => f.write_str("too big request"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses, in pieces of `size`, and tells the words of each command, and what was wrong.
    fn parse(input: &[u8], size: usize) -> (Vec<Vec<Vec<u8>>>, Option<Violation>) {
        let limits = Limits { most_words: 5, most_string: 20, most_command: 100, ..Limits::default() };
        let (mut words, mut progress, mut kept) = (Words::default(), Progress::default(), Vec::new());
        let mut found = Vec::new();
        for piece in input.chunks(size) {
            kept.extend_from_slice(piece);
            loop {
                let bytes = match words.find(&kept, &mut progress, &limits) {
                    Ok(Step::Command(bytes)) => {
                        found.push(words.command(&kept).words(0).map(<[u8]>::to_vec).collect());
                        bytes
                    }
                    Ok(Step::Nothing(bytes)) => bytes,
                    Ok(Step::Unfinished) => break,
                    Err(violation) => return (found, Some(violation)),
                };
                kept.drain(..bytes);
                assert_eq!(progress, Progress::default());
            }
            // As if another connection had been served.
            words.ranges = vec![7..7; 3];
            words.unquoted = b"somebody else's".to_vec();
        }
        (found, None)
    }

    fn is(input: &str, commands: &[&[&str]], violation: Option<Violation>) {
        let commands = commands.iter().map(|command| command.iter().map(|word| word.as_bytes().to_vec()).collect());
        let expected = (commands.collect::<Vec<_>>(), violation);
        for size in 1..=input.len() {
            assert_eq!(parse(input.as_bytes(), size), expected, "{input:?} in pieces of {size}");
        }
    }

    #[test]
    fn arrays_and_lines_follow_each_other() {
        is("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n", &[&["GET", "a"], &["PING"]], None);
        is(
            "PING\r\n\r\n  set a\tb \n*1\r\n$0\r\n\r\n*0\r\n*-1\r\nx\n",
            &[&["PING"], &["set", "a", "b"], &[""], &["x"]],
            None,
        );
    }

    #[test]
    fn quotes_keep_blanks_and_escapes() {
        is(r#"set "a b" '\'"' "\x41\n\q"#, &[], None);
        is("set \"a b\" '\\'\"' \"\\x41\\n\\q\\xg\"\n", &[&["set", "a b", "'\"", "A\nqxg"]], None);
        is("get \"\"\nget ''\r\n", &[&["get", ""], &["get", ""]], None);
        is("\"\"\nPING\n", &[&[""], &["PING"]], None);
        for line in ["get \"a\n", "get 'a\n", "get \"a\"b\n", "get \"\\\n", "'\\'\n"] {
            is(line, &[], Some(Violation::Quotes));
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named() {
        is("*6\r\n", &[], Some(Violation::Count));
        is("*x\r\n", &[], Some(Violation::Count));
        is("*1\rx", &[], Some(Violation::Count));
        is("*99999999999999999999999999999999", &[], Some(Violation::Count));
        is("PING\r\n*1\r\n:1\r\n", &[&["PING"]], Some(Violation::Dollar(b':')));
        is("*1\r\n$-1\r\n", &[], Some(Violation::Length));
        is("*1\r\n$21\r\n", &[], Some(Violation::Length));
        is("*1\r\n$1\r\nabc", &[], Some(Violation::End));
        let long = format!("*5\r\n{}", "$20\r\n01234567890123456789\r\n".repeat(4));
        is(&long, &[], Some(Violation::LongCommand));
        let said = Violation::Dollar(b'\n').to_string();
        assert_eq!(said, "Protocol error: expected '$', got '\\n'");
    }

    #[test]
    fn a_line_has_an_end() {
        let long = vec![b'x'; LONGEST_LINE];
        assert_eq!(parse(&long, 4_000).1, Some(Violation::LongLine));
        assert_eq!(parse(&long[1..], 4_000).1, None);
        let last = [&long[1..], b"\n"].concat();
        assert_eq!(parse(&last, LONGEST_LINE).0.len(), 1);
    }
}
