//! `postgresql://user:password@host:port/database?sslmode=…`, strictly.
//!
//! Not by a general parser of urls: those read `app:12/3@db` as host `app`, port 12, and repair what
//! they do not like. No reason given here quotes the url, for it may hold a password in any place.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    HostPort,
    database::{parse_port, split_port},
    tree,
};

/// All but what never needs encoding anywhere in a url.
const ENCODE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Parameters, as libpq names them, and the key of an entry that says the same.
const PARAMETERS: &[(&str, &str)] = &[
    ("host", "host"),
    ("port", "port"),
    ("user", "user"),
    ("password", "password"),
    ("dbname", "database"),
    ("sslmode", "ssl_mode"),
    ("sslrootcert", "ssl_root_cert"),
    ("sslcert", "ssl_cert"),
    ("sslkey", "ssl_key"),
    ("application_name", "application_name"),
    ("connect_timeout", "connect_timeout"),
];

const ENCODE_IT: &str = "percent-encode what is not a letter or a digit in the user, the password and the \
    database (`@` is %40, `/` is %2F, `:` is %3A, `#` is %23, `?` is %3F, `%` is %25), or give the entry by parts";

/// The keys of an entry that a url stands for, decoded. No key is there twice.
pub(super) type Parts = Vec<(&'static str, String)>;

pub(super) fn parse(url: &str) -> Result<Parts, String> {
    if url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!("it holds a space or a control character; {ENCODE_IT}"));
    }
    let (scheme, rest) =
        url.split_once("://").ok_or("it has no scheme; it should begin with `postgresql://`")?;
    let base = scheme.split_once('+').map_or(scheme, |(base, _)| base);
    if !matches!(base, "postgresql" | "postgres") {
        return Err(
            "its scheme is neither `postgresql` nor `postgres`, the only ones so far".to_owned()
        );
    }
    if rest.contains('#') {
        return Err(format!("it holds a `#`, which would cut it short; {ENCODE_IT}"));
    }
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, path) =
        rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    if path.contains(['@', '/']) || query.contains('@') {
        return Err(format!(
            "it holds an `@` or a `/` beyond the host, so that a password may have been cut in two; {ENCODE_IT}"
        ));
    }
    let mut parts = Parts::new();
    let host = match authority.rsplit_once('@') {
        Some((login, host)) => {
            let (user, password) = login
                .split_once(':')
                .map_or((login, None), |(user, password)| (user, Some(password)));
            add(&mut parts, "user", user)?;
            if let Some(password) = password {
                parts.push(("password", decode(password)?));
            }
            host
        }
        None => authority,
    };
    read_host(&mut parts, host)?;
    add(&mut parts, "database", path)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) =
            pair.split_once('=').ok_or("a parameter after `?` has no value; write `name=value`")?;
        if name == "target_session_attrs" {
            match &*decode(value)? {
                // Connections go to the primary anyway.
                "primary" | "read-write" => continue,
                _ => return Err("its target_session_attrs is neither `primary` nor `read-write`, the only ones so far".to_owned()),
            }
        }
        let Some((_, key)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
            return Err(unknown_parameter(name));
        };
        if parts.iter().any(|(taken, _)| taken == key) {
            return Err(format!("it gives the {key} twice; keep one"));
        }
        let value = decode(value)?;
        if *key == "host" && value.contains(',') {
            return Err("its parameter `host` names several hosts; write them before the database, as `a:5432,b/shop`".to_owned());
        }
        parts.push((key, value));
    }
    Ok(parts)
}

fn read_host(parts: &mut Parts, host: &str) -> Result<(), String> {
    let refused =
        |reason| format!("its host {reason}; if a part of it belongs to a password, {ENCODE_IT}");
    if host.contains(',') {
        for one in host.split(',') {
            HostPort::parse(one).map_err(refused)?;
        }
        return add(parts, "hosts", host);
    }
    let (name, port) = split_port(host).map_err(refused)?;
    add(parts, "host", name)?;
    if !port.is_empty() {
        parse_port(port).map_err(refused)?;
        parts.push(("port", port.to_owned()));
    }
    Ok(())
}

fn add(parts: &mut Parts, key: &'static str, text: &str) -> Result<(), String> {
    if !text.is_empty() {
        parts.push((key, decode(text)?));
    }
    Ok(())
}

fn decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let broken = bytes.iter().enumerate().any(|(at, byte)| {
        let hex = |at| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
        *byte == b'%' && !(hex(at + 1) && hex(at + 2))
    });
    if broken {
        return Err(format!("it holds a `%` that begins no `%XX`; {ENCODE_IT}"));
    }
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err("what it percent-encodes is not text".to_owned()),
    }
}

fn unknown_parameter(name: &str) -> String {
    let known: Vec<&str> = PARAMETERS.iter().map(|(known, _)| *known).collect();
    // What is not shaped like the name of a parameter may be a piece of a password.
    let named = if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
        format!(" `{name}`")
    } else {
        String::new()
    };
    let hint = match tree::nearest(name, known.iter().copied()) {
        Some(nearest) => format!(", the nearest is `{nearest}`"),
        None => String::new(),
    };
    format!("it has an unknown parameter{named}{hint}; known: {}", known.join(", "))
}

/// Puts a url together from what is written (`false`) and what `${}` inserted (`true`).
///
/// Inserted into user, password or database, a value is percent-encoded, so that it arrives as it is;
/// elsewhere it is refused if it would change where those parts begin and end.
pub(super) fn join(parts: &[(String, bool)]) -> Result<String, &'static str> {
    let length = |(text, inserted): &(String, bool)| if *inserted { 1 } else { text.len() };
    // One byte for each inserted value: where it stands is decided by what is written around it.
    let skeleton: String =
        parts.iter().map(|(text, inserted)| if *inserted { "x" } else { text }).collect();
    let Some(start) = skeleton.find("://").map(|at| at + 3) else {
        return Ok(parts.iter().map(|(text, _)| text.as_str()).collect());
    };
    let end_of = |from: usize, ends: &[char]| {
        skeleton.get(from..).and_then(|rest| rest.find(ends)).map_or(skeleton.len(), |at| from + at)
    };
    let host_end = end_of(start, &['/', '?', '#']);
    let path_end = end_of(host_end, &['?', '#']);
    let login = skeleton.get(start..host_end).unwrap_or_default();
    let login_end = login.rfind('@').map(|at| start + at);
    let one_value = login_end == Some(start + 1);

    let mut url = String::new();
    let mut at = 0;
    for part in parts {
        let (text, inserted) = part;
        if !inserted || at < start {
            url.push_str(text);
        } else if login_end.is_some_and(|end| at < end) {
            // `${login}@` with `user:password` in one value: the colon is meant.
            if one_value && text.contains(':') {
                refuse_any(text, &['@', '/', '?', '#'])?;
                url.push_str(text);
            } else {
                url.extend(utf8_percent_encode(text, ENCODE));
            }
        } else if at >= host_end && at < path_end {
            url.extend(utf8_percent_encode(text, ENCODE));
        } else {
            if at < host_end && login_end.is_some() {
                refuse_any(text, &['@', '/', '?', '#'])?;
            }
            url.push_str(text);
        }
        at += length(part);
    }
    Ok(url)
}

fn refuse_any(text: &str, characters: &[char]) -> Result<(), &'static str> {
    if text.contains(characters) {
        return Err(
            "a value that `${}` inserts holds one of `@ / ? #`, which would change where the parts of the url \
            begin and end; give the entry by parts",
        );
    }
    Ok(())
}
