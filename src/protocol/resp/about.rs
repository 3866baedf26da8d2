//! Commands about the connection and the server: what clients ask before they begin, and tools while they work.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::Call;
use super::reply::{Reply, Version};
use super::table::{COMMANDS, Kind, Refusal, Spec, find};
use crate::protocol::text::integer;

/// Tools look for a version they know: that of the commands as they are here.
const COMPATIBLE: &str = "7.0.0";

type Done = Result<(), Refusal>;

pub(super) fn ping(call: &mut Call<'_, '_, '_>) -> Done {
    match call.command.len() {
        1 => call.reply.word("PONG"),
        2 => call.reply.bulk(call.command.word(1)),
        _ => return Err(Refusal::Arity("ping")),
    }
    Ok(())
}

pub(super) fn echo(call: &mut Call<'_, '_, '_>) -> Done {
    call.reply.bulk(call.command.word(1));
    Ok(())
}

pub(super) fn quit(call: &mut Call<'_, '_, '_>) -> Done {
    call.reply.ok();
    call.reply.cx.close_when_flushed();
    Ok(())
}

pub(super) fn reset(call: &mut Call<'_, '_, '_>) -> Done {
    call.session.version = Version::Two;
    call.session.name = None;
    call.reply.word("RESET");
    Ok(())
}

pub(super) fn select(call: &mut Call<'_, '_, '_>) -> Done {
    match integer(call.command.word(1)).ok_or(Refusal::NotAnInteger)? {
        0 => call.reply.ok(),
        _ => return Err(Refusal::Database),
    }
    Ok(())
}

pub(super) fn auth(_: &mut Call<'_, '_, '_>) -> Done {
    Err(Refusal::NoPassword)
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`
pub(super) fn hello(call: &mut Call<'_, '_, '_>) -> Done {
    let mut words = call.command.words(1);
    let version = match words.next().map(integer) {
        None => call.session.version,
        Some(Some(2)) => Version::Two,
        Some(Some(3)) => Version::Three,
        Some(Some(_)) => return Err(Refusal::Protocol),
        Some(None) => return Err(Refusal::NotAnInteger),
    };
    let mut named = None;
    while let Some(option) = words.next() {
        if option.eq_ignore_ascii_case(b"auth") {
            return Err(Refusal::NoPassword);
        }
        if !option.eq_ignore_ascii_case(b"setname") {
            return Err(Refusal::Syntax);
        }
        named = Some(name(words.next().ok_or(Refusal::Syntax)?)?);
    }
    if let Some(named) = named {
        call.session.name = named;
    }
    call.session.version = version;
    call.reply.version = version;

    let id = i64::try_from(call.session.id).unwrap_or(i64::MAX);
    let reply = &mut call.reply;
    reply.map(7);
    for (key, value) in [("server", "redis"), ("version", COMPATIBLE)] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    let proto = if version == Version::Three { 3 } else { 2 };
    for (key, value) in [("proto", proto), ("id", id)] {
        reply.bulk(key.as_bytes());
        reply.integer(value);
    }
    for (key, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(key.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

pub(super) fn client(call: &mut Call<'_, '_, '_>) -> Done {
    let (subcommand, words) = (call.command.word(1), call.command.len());
    let is = |name: &str, arity| subcommand.eq_ignore_ascii_case(name.as_bytes()) && words == arity;
    if is("id", 2) {
        call.reply.integer(i64::try_from(call.session.id).unwrap_or(i64::MAX));
    } else if is("getname", 2) {
        match &call.session.name {
            Some(name) => call.reply.bulk(name),
            None => call.reply.null(),
        }
    } else if is("setname", 3) {
        call.session.name = name(call.command.word(2))?;
        call.reply.ok();
    } else if is("setinfo", 4) {
        // The name and the version of the client's library, which nobody asks for here.
        call.reply.ok();
    } else {
        return Err(Refusal::subcommand("client", subcommand));
    }
    Ok(())
}

/// The longest name a connection may have.
const LONGEST_NAME: usize = 256;

/// A name for a connection; none if it is empty.
fn name(word: &[u8]) -> Result<Option<Box<[u8]>>, Refusal> {
    if word.len() > LONGEST_NAME || !word.iter().all(u8::is_ascii_graphic) {
        return Err(Refusal::Name);
    }
    Ok((!word.is_empty()).then(|| word.into()))
}

/// `CONFIG GET pattern…`
pub(super) fn config(call: &mut Call<'_, '_, '_>) -> Done {
    let subcommand = call.command.word(1);
    if !subcommand.eq_ignore_ascii_case(b"get") {
        return Err(Refusal::subcommand("config", subcommand));
    }
    if call.command.len() < 3 {
        return Err(Refusal::Arity("config|get"));
    }
    let limits = call.session.shared.limits;
    let all = [
        ("appendonly", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("maxmemory", limits.memory.to_string()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("proto-max-bulk-len", limits.most_string.to_string()),
        ("save", String::new()),
    ];
    let asked = |name: &str| call.command.words(2).any(|pattern| matches(pattern, name.as_bytes()));
    let found = all.iter().filter(|(name, _)| asked(name)).collect::<Vec<_>>();
    call.reply.map(found.len());
    for (name, value) in found {
        call.reply.bulk(name.as_bytes());
        call.reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// Whether `text` is what `pattern` describes, in which `*` stands for any text and `?` for any character.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut rest) = (0, text);
    // Where to go on if all since the last star was in vain.
    let mut star: Option<(usize, &[u8])> = None;
    loop {
        match (pattern.get(at), rest) {
            (Some(b'*'), _) => {
                at += 1;
                star = Some((at, rest));
            }
            (Some(wanted), [first, after @ ..]) if *wanted == b'?' || wanted.eq_ignore_ascii_case(first) => {
                at += 1;
                rest = after;
            }
            (None, []) => return true,
            _ => {
                let Some((after_star, [_, fewer @ ..])) = star else { return false };
                (at, rest) = (after_star, fewer);
                star = Some((after_star, fewer));
            }
        }
    }
}

/// `COMMAND`, `COMMAND COUNT`, `COMMAND LIST`, `COMMAND INFO name…`, `COMMAND DOCS name…`
pub(super) fn command(call: &mut Call<'_, '_, '_>) -> Done {
    let Call { command, reply, .. } = call;
    if command.len() == 1 {
        reply.array(COMMANDS.len());
        COMMANDS.iter().for_each(|spec| describe(reply, spec));
        return Ok(());
    }
    let subcommand = command.word(1);
    let is = |name: &str| subcommand.eq_ignore_ascii_case(name.as_bytes());
    let asked = command.words(2).map(find);
    if is("count") {
        reply.count(COMMANDS.len());
    } else if is("list") {
        reply.array(COMMANDS.len());
        COMMANDS.iter().for_each(|spec| reply.bulk(spec.name.as_bytes()));
    } else if is("info") {
        reply.array(asked.len());
        for found in asked {
            match found {
                Some(spec) => describe(reply, spec),
                None => reply.null(),
            }
        }
    } else if is("docs") {
        let known = asked.flatten().collect::<Vec<_>>();
        let told = if command.len() == 2 { COMMANDS.iter().collect() } else { known };
        reply.map(told.len());
        for spec in told {
            reply.bulk(spec.name.as_bytes());
            reply.map(1);
            reply.bulk(b"summary");
            reply.bulk(spec.summary.as_bytes());
        }
    } else {
        return Err(Refusal::subcommand("command", subcommand));
    }
    Ok(())
}

fn describe(reply: &mut Reply<'_, '_>, spec: &Spec) {
    reply.array(6);
    reply.bulk(spec.name.as_bytes());
    reply.integer(spec.arity.into());
    let flags: &[&str] = match spec.kind {
        Kind::Read => &["readonly"],
        Kind::Write => &["write"],
        Kind::Grow => &["write", "denyoom"],
        Kind::Other => &["loading", "stale"],
    };
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.word(flag));
    let (first, last, step) = spec.keys;
    [first, last, step].into_iter().for_each(|number| reply.integer(number.into()));
}

/// `INFO [section…]`
pub(super) fn info(call: &mut Call<'_, '_, '_>) -> Done {
    let shared = &call.session.shared;
    let connections = shared.connections.load(Ordering::Relaxed);
    let connected = connections.saturating_sub(shared.closed.load(Ordering::Relaxed));
    let commands = shared.commands.load(Ordering::Relaxed) + call.before;
    let memory = shared.limits.memory;
    let store = call.store.get();
    let (used, keys) = (store.used(), store.len());
    let sections = [
        (
            "Server",
            format!(
                "redis_version:{COMPATIBLE}\r\nredis_mode:standalone\r\nserver_name:pollmark\r\n\
                 pollmark_version:{}\r\nprocess_id:{}\r\n",
                env!("CARGO_PKG_VERSION"),
                std::process::id()
            ),
        ),
        ("Clients", format!("connected_clients:{connected}\r\n")),
        ("Memory", format!("used_memory:{used}\r\nmaxmemory:{memory}\r\nmaxmemory_policy:noeviction\r\n")),
        ("Persistence", "loading:0\r\n".to_owned()),
        ("Stats", format!("total_connections_received:{connections}\r\ntotal_commands_processed:{commands}\r\n")),
        ("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()),
        ("Keyspace", if keys == 0 { String::new() } else { format!("db0:keys={keys}\r\n") }),
    ];
    let everything = ["all", "default", "everything"];
    let asked = |section: &str| {
        let mut words = call.command.words(1);
        let is = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        words.len() == 0 || words.any(|word| is(word, section) || everything.iter().any(|name| is(word, name)))
    };
    let mut text = String::new();
    for (section, lines) in sections.iter().filter(|(section, _)| asked(section)) {
        let blank = if text.is_empty() { "" } else { "\r\n" };
        let _ = write!(text, "{blank}# {section}\r\n{lines}");
    }
    call.reply.verbatim(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks_stand_for_others() {
        for (pattern, text) in
            [("*", ""), ("*", "abc"), ("a*c", "abc"), ("a*c*e", "abcbcde"), ("?b?", "abc"), ("SAVE", "save")]
        {
            assert!(matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("?", ""), ("a*c", "abcd"), ("ab", "abc"), ("*x", "abc"), ("a?", "a")] {
            assert!(!matches(pattern.as_bytes(), text.as_bytes()), "{pattern} {text}");
        }
    }
}
