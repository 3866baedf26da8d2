//! Which commands there are, how many words each takes, and who executes it.

use std::fmt;

use super::Call;
use super::about::{auth, client, command, config, echo, hello, info, ping, quit, reset, select};
use super::commands::{
    append, dbsize, decr, decrby, del, exists, expire, flush, get, getdel, getset, incr, incrby, llen, lpop, lpush,
    lrange, mget, mset, persist, pexpire, psetex, pttl, rpop, rpush, set, setex, setnx, strlen, ttl, type_of,
};
use super::store::WrongType;

/// One command.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// How many words, with its name; or, negative, how many at least.
    pub(super) arity: i8,
    pub(super) kind: Kind,
    /// The first and the last word that is a key, and the step between; from the end if negative.
    pub(super) keys: (i8, i8, i8),
    pub(super) summary: &'static str,
    run: fn(&mut Call<'_, '_, '_>) -> Result<(), Refusal>,
}

/// What a command does to the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Read,
    Write,
    /// It needs room, and is refused where there is none.
    Grow,
    Other,
}

const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);

const fn spec(
    name: &'static str,
    arity: i8,
    kind: Kind,
    keys: (i8, i8, i8),
    summary: &'static str,
    run: fn(&mut Call<'_, '_, '_>) -> Result<(), Refusal>,
) -> Spec {
    Spec { name, arity, kind, keys, summary, run }
}

/// Searched from the front: those that are asked for most come first.
pub(super) static COMMANDS: [Spec; 43] = [
    spec("get", 2, Kind::Read, ONE, "The text of a key.", get),
    spec("set", -3, Kind::Grow, ONE, "Makes a key hold a text.", set),
    spec("ping", -1, Kind::Other, NONE, "Answers.", ping),
    spec("incr", 2, Kind::Grow, ONE, "Adds 1 to the number in a key.", incr),
    spec("lpush", -3, Kind::Grow, ONE, "Adds to the front of a list.", lpush),
    spec("del", -2, Kind::Write, ALL, "Removes keys.", del),
    spec("mget", -2, Kind::Read, ALL, "The texts of several keys.", mget),
    spec("mset", -3, Kind::Grow, PAIRS, "Makes several keys hold a text each.", mset),
    spec("exists", -2, Kind::Read, ALL, "How many of the keys there are.", exists),
    spec("expire", 3, Kind::Write, ONE, "Gives a key so many seconds.", expire),
    spec("lrange", 4, Kind::Read, ONE, "Elements of a list.", lrange),
    spec("append", 3, Kind::Grow, ONE, "Adds to the end of a text.", append),
    spec("auth", -2, Kind::Other, NONE, "Refused: there is no password.", auth),
    spec("client", -2, Kind::Other, NONE, "About this connection.", client),
    spec("command", -1, Kind::Other, NONE, "About the commands.", command),
    spec("config", -2, Kind::Other, NONE, "What is configured.", config),
    spec("dbsize", 1, Kind::Read, NONE, "How many keys there are.", dbsize),
    spec("decr", 2, Kind::Grow, ONE, "Takes 1 from the number in a key.", decr),
    spec("decrby", 3, Kind::Grow, ONE, "Takes from the number in a key.", decrby),
    spec("echo", 2, Kind::Other, NONE, "Answers with the same.", echo),
    spec("flushall", -1, Kind::Write, NONE, "Removes every key.", flush),
    spec("flushdb", -1, Kind::Write, NONE, "Removes every key.", flush),
    spec("getdel", 2, Kind::Write, ONE, "Removes a key, and tells its text.", getdel),
    spec("getset", 3, Kind::Grow, ONE, "Makes a key hold a text, and tells the one before.", getset),
    spec("hello", -1, Kind::Other, NONE, "Chooses the version of the protocol.", hello),
    spec("incrby", 3, Kind::Grow, ONE, "Adds to the number in a key.", incrby),
    spec("info", -1, Kind::Other, NONE, "About the server.", info),
    spec("llen", 2, Kind::Read, ONE, "How long a list is.", llen),
    spec("lpop", -2, Kind::Write, ONE, "Takes from the front of a list.", lpop),
    spec("persist", 2, Kind::Write, ONE, "Takes a key's deadline back.", persist),
    spec("pexpire", 3, Kind::Write, ONE, "Gives a key so many milliseconds.", pexpire),
    spec("psetex", 4, Kind::Grow, ONE, "Makes a key hold a text for so many milliseconds.", psetex),
    spec("pttl", 2, Kind::Read, ONE, "How many milliseconds a key has.", pttl),
    spec("quit", -1, Kind::Other, NONE, "Ends the connection.", quit),
    spec("reset", 1, Kind::Other, NONE, "Makes the connection as if new.", reset),
    spec("rpop", -2, Kind::Write, ONE, "Takes from the end of a list.", rpop),
    spec("rpush", -3, Kind::Grow, ONE, "Adds to the end of a list.", rpush),
    spec("select", 2, Kind::Other, NONE, "Chooses the database, of which there is one.", select),
    spec("setex", 4, Kind::Grow, ONE, "Makes a key hold a text for so many seconds.", setex),
    spec("setnx", 3, Kind::Grow, ONE, "Makes a key hold a text if it holds nothing.", setnx),
    spec("strlen", 2, Kind::Read, ONE, "How long a text is.", strlen),
    spec("ttl", 2, Kind::Read, ONE, "How many seconds a key has.", ttl),
    spec("type", 2, Kind::Read, ONE, "What a key holds.", type_of),
];

/// The command called `name`, in any case.
#[inline]
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    COMMANDS.iter().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Executes a command, and answers it.
#[inline]
pub(super) fn execute(call: &mut Call<'_, '_, '_>) {
    if let Err(refusal) = try_to(call) {
        call.reply.error(refusal);
    }
}

fn try_to(call: &mut Call<'_, '_, '_>) -> Result<(), Refusal> {
    let Some(spec) = find(call.command.word(0)) else { return Err(Refusal::unknown(call)) };
    let words = call.command.len();
    let least = usize::from(spec.arity.unsigned_abs());
    if words < least || (spec.arity > 0 && words > least) {
        return Err(Refusal::Arity(spec.name));
    }
    if spec.kind == Kind::Grow {
        let bytes = call.command.words(1).map(<[u8]>::len).sum();
        let cx = &mut call.reply.cx;
        if !call.store.get().has_room(bytes, words - 1, || cx.now()) {
            return Err(Refusal::Memory);
        }
    }
    (spec.run)(call)
}

/// Why a command was not executed.
#[derive(Debug)]
pub(super) enum Refusal {
    Unknown(String),
    Arity(&'static str),
    Subcommand { of: &'static str, name: String },
    WrongType,
    Syntax,
    NotAnInteger,
    NotPositive,
    Overflow,
    Expire(&'static str),
    Database,
    Memory,
    Protocol,
    NoPassword,
    Name,
    LongText,
}

impl Refusal {
    #[cold]
    fn unknown(call: &Call<'_, '_, '_>) -> Refusal {
        let mut said = format!("'{}', with args beginning with: ", shown(call.command.word(0)));
        for word in call.command.words(1).take(8) {
            said.push_str(&format!("'{}' ", shown(word)));
        }
        Refusal::Unknown(said)
    }

    #[cold]
    pub(super) fn subcommand(of: &'static str, name: &[u8]) -> Refusal {
        Refusal::Subcommand { of, name: shown(name) }
    }
}

/// As much of a word as fits in a message.
fn shown(word: &[u8]) -> String {
    String::from_utf8_lossy(&word[..word.len().min(128)]).into_owned()
}

impl From<WrongType> for Refusal {
    fn from(_: WrongType) -> Refusal {
        Refusal::WrongType
    }
}

// In Redis's own words: clients know them.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Unknown(said) => write!(f, "ERR unknown command {said}"),
            Refusal::Arity(name) => write!(f, "ERR wrong number of arguments for '{name}' command"),
            Refusal::Subcommand { of, name } => write!(f, "ERR unknown subcommand '{name}' of '{of}'"),
            Refusal::WrongType => f.write_str("WRONGTYPE Operation against a key holding the wrong kind of value"),
            Refusal::Syntax => f.write_str("ERR syntax error"),
            Refusal::NotAnInteger => f.write_str("ERR value is not an integer or out of range"),
            Refusal::NotPositive => f.write_str("ERR value is out of range, must be positive"),
            Refusal::Overflow => f.write_str("ERR increment or decrement would overflow"),
            Refusal::Expire(name) => write!(f, "ERR invalid expire time in '{name}' command"),
            Refusal::Database => f.write_str("ERR DB index is out of range"),
            Refusal::Memory => f.write_str("OOM command not allowed when used memory > 'maxmemory'."),
            Refusal::Protocol => f.write_str("NOPROTO unsupported protocol version"),
            Refusal::NoPassword => {
                f.write_str("ERR AUTH <password> called without any password configured for the default user")
            }
            Refusal::Name => f.write_str("ERR Client names cannot contain spaces, newlines or special characters."),
            Refusal::LongText => f.write_str("ERR string exceeds maximum allowed size (proto-max-bulk-len)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_is_found_by_its_own_name_in_any_case() {
        for spec in &COMMANDS {
            let found = find(spec.name.to_uppercase().as_bytes()).expect("in the table");
            assert_eq!(found.name, spec.name, "two commands of one name");
            assert!(spec.arity != 0 && spec.summary.ends_with('.'));
        }
        assert!(find(b"").is_none() && find(b"gets").is_none());
    }
}
