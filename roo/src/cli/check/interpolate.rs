//! Variables in the values of a stack file, as `docker stack deploy` puts them in.

/// Puts in the variables of `text`: `$NAME`, `${NAME}`, and with a default, an error or a replacement
/// `${NAME:-x}`, `${NAME-x}`, `${NAME:?x}`, `${NAME?x}`, `${NAME:+x}`, `${NAME+x}`; `$$` is a dollar sign. Where there
/// is a colon, an empty variable counts as not set. Names that are not set and have no default are told to `unset`.
///
/// # Errors
/// A sentence: a form that is none of these, or the error that was asked for.
pub(super) fn interpolate(
    text: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('$') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let end = closing(after).ok_or_else(|| format!("'{text}' opens '${{' and does not close it"))?;
            out.push_str(&braced(&after[..end], variable, unset)?);
            rest = &after[end + 1..];
        } else {
            let name = name_of(after);
            if name.is_empty() {
                return Err(format!("'{text}' has a '$' with no name behind it: write '$$' for the sign itself"));
            }
            out.push_str(&value(name, variable, unset));
            rest = &after[name.len()..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// What stands between the braces.
fn braced(
    inner: &str,
    variable: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, String> {
    let name = name_of(inner);
    if name.is_empty() {
        return Err(format!("'${{{inner}}}' names no variable"));
    }
    let rest = &inner[name.len()..];
    if rest.is_empty() {
        return Ok(value(name, variable, unset));
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let set = variable(name).filter(|value| !(colon && value.is_empty()));
    let mut other = |word: &str| interpolate(word, variable, unset);
    match (rest.split_at_checked(1), set) {
        (Some(("-", _)), Some(set)) | (Some(("?", _)), Some(set)) => Ok(set),
        (Some(("-", word)), None) | (Some(("+", word)), Some(_)) => other(word),
        (Some(("?", word)), None) => Err(format!("the variable {name} must be set: {}", other(word)?)),
        (Some(("+", _)), None) => Ok(String::new()),
        _ => Err(format!("'${{{inner}}}' can't be read: write ${{{name}}} or ${{{name}:-default}}")),
    }
}

fn value(name: &str, variable: &dyn Fn(&str) -> Option<String>, unset: &mut dyn FnMut(&str)) -> String {
    variable(name).unwrap_or_else(|| {
        unset(name);
        String::new()
    })
}

/// The name that `text` begins with.
fn name_of(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit()) { "" } else { &text[..end] }
}

/// Where the brace closes that was open before `text`.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (place, c) in text.char_indices() {
        match c {
            '{' if text[..place].ends_with('$') => depth += 1,
            '}' if depth == 0 => return Some(place),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_in(text: &str) -> (Result<String, String>, Vec<String>) {
        let variable = |name: &str| match name {
            "A" => Some("a".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut unset = Vec::new();
        let done = interpolate(text, &variable, &mut |name| unset.push(name.to_owned()));
        (done, unset)
    }

    #[test]
    fn variables_are_put_in_as_docker_does() {
        for (text, wanted) in [
            ("plain", "plain"),
            ("$A.example", "a.example"),
            ("x${A}y", "xay"),
            ("$$A $${A}", "$A ${A}"),
            ("${A:-b}${A-b}${A:?b}${A?b}", "aaaa"),
            ("${NONE:-b}${NONE-c}", "bc"),
            ("${EMPTY:-b}|${EMPTY-b}|${EMPTY?b}", "b||"),
            ("${A:+b}${A+b}|${NONE:+b}${NONE+b}|${EMPTY:+b}|${EMPTY+b}", "bb|||b"),
            ("${NONE:-${A}.${NONE:-${EMPTY:-d}}}", "a.d"),
            ("${NONE:-http://x:80/{y}", "http://x:80/{y"),
        ] {
            assert_eq!(put_in(text), (Ok(wanted.to_owned()), vec![]), "{text}");
        }
        assert_eq!(put_in("$NONE|${NONE}"), (Ok("|".to_owned()), vec!["NONE".to_owned(), "NONE".to_owned()]));
    }

    #[test]
    fn what_can_not_be_put_in_is_told() {
        for (text, word) in [
            ("a $ b", "'$$'"),
            ("${A", "does not close"),
            ("${}", "names no variable"),
            ("${1A}", "names no variable"),
            ("${A!b}", "${A:-default}"),
            ("${A:}", "${A:-default}"),
            ("${NONE:?say $A}", "NONE must be set: say a"),
            ("${EMPTY:?it}", "EMPTY must be set"),
        ] {
            let fault = put_in(text).0.expect_err(text);
            assert!(fault.contains(word), "{text}: {fault}");
        }
    }
}
