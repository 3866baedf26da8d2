//! Commands on keys, texts and lists.

use std::time::{Duration, Instant};

use super::Call;
use super::store::{End, Expiry, Value};
use super::table::Refusal;
use crate::protocol::text::{Decimal, integer};

type Done = Result<(), Refusal>;

impl<'a> Call<'a, '_, '_> {
    #[inline]
    fn key(&self) -> &'a [u8] {
        self.command.word(1)
    }

    #[inline]
    fn integer(&self, at: usize) -> Result<i64, Refusal> {
        integer(self.command.word(at)).ok_or(Refusal::NotAnInteger)
    }

    /// The text of a key as a reply.
    #[inline]
    fn tell(&mut self, key: &[u8]) -> Done {
        match self.store.get().text(key, || self.reply.cx.now())? {
            Some(text) => self.reply.bulk(text),
            None => self.reply.null(),
        }
        Ok(())
    }

    fn exists(&mut self, key: &[u8]) -> bool {
        self.store.get().get(key, || self.reply.cx.now()).is_some()
    }

    /// The time `amount` units from now.
    fn after(&mut self, amount: i64, unit: Duration, command: &'static str) -> Result<Instant, Refusal> {
        let after = u64::try_from(amount).ok().filter(|amount| *amount > 0).and_then(|amount| {
            let milliseconds = amount.checked_mul(u64::try_from(unit.as_millis()).ok()?)?;
            self.reply.now().checked_add(Duration::from_millis(milliseconds))
        });
        after.ok_or(Refusal::Expire(command))
    }
}

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

#[inline]
pub(super) fn get(call: &mut Call<'_, '_, '_>) -> Done {
    call.tell(call.key())
}

pub(super) fn set(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, text) = (call.key(), call.command.word(2));
    if call.command.len() == 3 {
        call.store.get().set(key, text, Expiry::Never);
        call.reply.ok();
        return Ok(());
    }
    let SetOptions { expiry, condition, tells } = set_options(call)?;
    let there = call.exists(key);
    let sets = condition.is_none_or(|condition| there == condition);
    if tells {
        call.tell(key)?;
    }
    if sets {
        // A key whose time has passed has none to keep.
        let expiry = if expiry == Expiry::Unchanged && !there { Expiry::Never } else { expiry };
        call.store.get().set(key, text, expiry);
    }
    match (tells, sets) {
        (true, _) => {}
        (false, true) => call.reply.ok(),
        (false, false) => call.reply.null(),
    }
    Ok(())
}

struct SetOptions {
    expiry: Expiry,
    /// Only if the key is there (XX), or is not (NX).
    condition: Option<bool>,
    /// The text before is the reply.
    tells: bool,
}

fn set_options(call: &mut Call<'_, '_, '_>) -> Result<SetOptions, Refusal> {
    let (mut expiry, mut condition, mut tells) = (None, None, false);
    let mut at = 3;
    while at < call.command.len() {
        let word = call.command.word(at);
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if is("nx") || is("xx") {
            if condition.replace(is("xx")).is_some() {
                return Err(Refusal::Syntax);
            }
        } else if is("get") {
            tells = true;
        } else {
            let chosen = if is("keepttl") {
                Expiry::Unchanged
            } else {
                let unit = if is("ex") { SECOND } else { MILLISECOND };
                at += 1;
                if !(is("ex") || is("px")) || at == call.command.len() {
                    return Err(Refusal::Syntax);
                }
                let amount = call.integer(at)?;
                Expiry::At(call.after(amount, unit, "set")?)
            };
            if expiry.replace(chosen).is_some() {
                return Err(Refusal::Syntax);
            }
        }
        at += 1;
    }
    Ok(SetOptions { expiry: expiry.unwrap_or(Expiry::Never), condition, tells })
}

pub(super) fn setnx(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, text) = (call.key(), call.command.word(2));
    let there = call.exists(key);
    if !there {
        call.store.get().set(key, text, Expiry::Never);
    }
    call.reply.integer(i64::from(!there));
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_, '_, '_>) -> Done {
    set_for(call, SECOND, "setex")
}

pub(super) fn psetex(call: &mut Call<'_, '_, '_>) -> Done {
    set_for(call, MILLISECOND, "psetex")
}

fn set_for(call: &mut Call<'_, '_, '_>, unit: Duration, command: &'static str) -> Done {
    let amount = call.integer(2)?;
    let (key, expires) = (call.key(), call.after(amount, unit, command)?);
    call.store.get().set(key, call.command.word(3), Expiry::At(expires));
    call.reply.ok();
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, text) = (call.key(), call.command.word(2));
    call.tell(key)?;
    call.store.get().set(key, text, Expiry::Never);
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_, '_, '_>) -> Done {
    let key = call.key();
    call.tell(key)?;
    call.store.get().remove(key, || call.reply.cx.now());
    Ok(())
}

pub(super) fn append(call: &mut Call<'_, '_, '_>) -> Done {
    let (key, more) = (call.key(), call.command.word(2));
    let most = call.session.shared.limits.most_string as usize;
    let store = call.store.get();
    let old = store.text(key, || call.reply.cx.now())?.map_or(0, <[u8]>::len);
    if old + more.len() > most {
        return Err(Refusal::LongText);
    }
    let length = store.append(key, more, || call.reply.cx.now())?;
    call.reply.count(length);
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_, '_, '_>) -> Done {
    let text = call.store.get().text(call.command.word(1), || call.reply.cx.now())?;
    call.reply.count(text.map_or(0, <[u8]>::len));
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_, '_, '_>) -> Done {
    let keys = call.command.words(1);
    call.reply.array(keys.len());
    for key in keys {
        // Where there is no text, whatever else there is, there is nothing.
        match call.store.get().text(key, || call.reply.cx.now()) {
            Ok(Some(text)) => call.reply.bulk(text),
            _ => call.reply.null(),
        }
        if call.reply.is_too_long() {
            break;
        }
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_, '_, '_>) -> Done {
    if call.command.len().is_multiple_of(2) {
        return Err(Refusal::Arity("mset"));
    }
    for at in (1..call.command.len()).step_by(2) {
        call.store.get().set(call.command.word(at), call.command.word(at + 1), Expiry::Never);
    }
    call.reply.ok();
    Ok(())
}

pub(super) fn incr(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, call.integer(2)?)
}

pub(super) fn decrby(call: &mut Call<'_, '_, '_>) -> Done {
    add(call, call.integer(2)?.checked_neg().ok_or(Refusal::Overflow)?)
}

fn add(call: &mut Call<'_, '_, '_>, amount: i64) -> Done {
    let key = call.key();
    let store = call.store.get();
    let (old, expiry) = match store.text(key, || call.reply.cx.now())? {
        Some(text) => (integer(text).ok_or(Refusal::NotAnInteger)?, Expiry::Unchanged),
        None => (0, Expiry::Never),
    };
    let sum = old.checked_add(amount).ok_or(Refusal::Overflow)?;
    store.set(key, Decimal::new(sum).as_bytes(), expiry);
    call.reply.integer(sum);
    Ok(())
}

pub(super) fn del(call: &mut Call<'_, '_, '_>) -> Done {
    let mut removed = 0;
    for key in call.command.words(1) {
        removed += i64::from(call.store.get().remove(key, || call.reply.cx.now()));
    }
    call.reply.integer(removed);
    Ok(())
}

pub(super) fn exists(call: &mut Call<'_, '_, '_>) -> Done {
    let found = call.command.words(1).filter(|key| call.exists(key)).count();
    call.reply.count(found);
    Ok(())
}

pub(super) fn type_of(call: &mut Call<'_, '_, '_>) -> Done {
    let name = match call.store.get().get(call.command.word(1), || call.reply.cx.now()) {
        Some(Value::Text(_)) => "string",
        Some(Value::List(_)) => "list",
        None => "none",
    };
    call.reply.word(name);
    Ok(())
}

pub(super) fn expire(call: &mut Call<'_, '_, '_>) -> Done {
    expire_after(call, SECOND, "expire")
}

pub(super) fn pexpire(call: &mut Call<'_, '_, '_>) -> Done {
    expire_after(call, MILLISECOND, "pexpire")
}

fn expire_after(call: &mut Call<'_, '_, '_>, unit: Duration, command: &'static str) -> Done {
    let (key, amount) = (call.key(), call.integer(2)?);
    let known = if amount <= 0 {
        // Its time is over.
        call.store.get().remove(key, || call.reply.cx.now())
    } else {
        let expires = call.after(amount, unit, command)?;
        call.store.get().set_expires(key, Some(expires), || call.reply.cx.now())
    };
    call.reply.integer(i64::from(known));
    Ok(())
}

pub(super) fn persist(call: &mut Call<'_, '_, '_>) -> Done {
    let key = call.key();
    let store = call.store.get();
    let mortal = store.expires(key, || call.reply.cx.now()).flatten().is_some();
    if mortal {
        store.set_expires(key, None, || call.reply.cx.now());
    }
    call.reply.integer(i64::from(mortal));
    Ok(())
}

pub(super) fn ttl(call: &mut Call<'_, '_, '_>) -> Done {
    // To the nearest second, as Redis does.
    left(call, |left| (left + Duration::from_millis(500)).as_secs().into())
}

pub(super) fn pttl(call: &mut Call<'_, '_, '_>) -> Done {
    left(call, |left| left.as_millis())
}

fn left(call: &mut Call<'_, '_, '_>, in_units: impl Fn(Duration) -> u128) -> Done {
    let now = call.reply.now();
    let left = match call.store.get().expires(call.command.word(1), || now) {
        None => -2,
        Some(None) => -1,
        Some(Some(expires)) => i64::try_from(in_units(expires.duration_since(now))).unwrap_or(i64::MAX),
    };
    call.reply.integer(left);
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_, '_, '_>) -> Done {
    let keys = call.store.get().len();
    call.reply.count(keys);
    Ok(())
}

pub(super) fn flush(call: &mut Call<'_, '_, '_>) -> Done {
    call.store.get().clear();
    call.reply.ok();
    Ok(())
}

pub(super) fn lpush(call: &mut Call<'_, '_, '_>) -> Done {
    push(call, End::Front)
}

pub(super) fn rpush(call: &mut Call<'_, '_, '_>) -> Done {
    push(call, End::Back)
}

fn push(call: &mut Call<'_, '_, '_>, end: End) -> Done {
    let mut length = 0;
    for element in call.command.words(2) {
        length = call.store.get().push(call.command.word(1), element, end, || call.reply.cx.now())?;
    }
    call.reply.count(length);
    Ok(())
}

pub(super) fn lpop(call: &mut Call<'_, '_, '_>) -> Done {
    pop(call, End::Front, "lpop")
}

pub(super) fn rpop(call: &mut Call<'_, '_, '_>) -> Done {
    pop(call, End::Back, "rpop")
}

fn pop(call: &mut Call<'_, '_, '_>, end: End, command: &'static str) -> Done {
    let key = call.key();
    let store = call.store.get();
    let count = match call.command.len() {
        2 => {
            match store.pop(key, end, || call.reply.cx.now())? {
                Some(element) => call.reply.bulk(&element),
                None => call.reply.null(),
            }
            return Ok(());
        }
        3 => integer(call.command.word(2)).and_then(|count| usize::try_from(count).ok()),
        _ => return Err(Refusal::Arity(command)),
    };
    let count = count.ok_or(Refusal::NotPositive)?;
    let Some(length) = store.list(key, || call.reply.cx.now())?.map(|list| list.len()) else {
        call.reply.null();
        return Ok(());
    };
    let count = count.min(length);
    call.reply.array(count);
    for _ in 0..count {
        let element = store.pop(key, end, || call.reply.cx.now())?.unwrap_or_default();
        call.reply.bulk(&element);
        if call.reply.is_too_long() {
            break;
        }
    }
    Ok(())
}

pub(super) fn llen(call: &mut Call<'_, '_, '_>) -> Done {
    let list = call.store.get().list(call.command.word(1), || call.reply.cx.now())?;
    call.reply.count(list.map_or(0, |list| list.len()));
    Ok(())
}

pub(super) fn lrange(call: &mut Call<'_, '_, '_>) -> Done {
    let (first, last) = (call.integer(2)?, call.integer(3)?);
    let Some(list) = call.store.get().list(call.command.word(1), || call.reply.cx.now())? else {
        call.reply.array(0);
        return Ok(());
    };
    // Negative ones count from the end.
    let length = list.len() as i64;
    let place = |at: i64| if at < 0 { at.saturating_add(length) } else { at };
    let first = place(first).max(0);
    let count = (place(last).min(length - 1) - first.min(length) + 1).max(0) as usize;
    call.reply.array(count);
    for element in list.iter().skip(first as usize).take(count) {
        call.reply.bulk(element);
        if call.reply.is_too_long() {
            break;
        }
    }
    Ok(())
}
