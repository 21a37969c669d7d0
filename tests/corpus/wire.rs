//! A strict reader of HTTP/1.1 messages (RFC 9112 sections 2 to 7): the judge of what a proxy has written. It takes
//! nothing that two readers could understand differently, and shares no code with any proxy.

/// A message as it was written.
#[derive(Debug, Clone)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    pub fields: Vec<Field>,
    pub body: Vec<u8>,
    pub trailers: Vec<Field>,
}

/// Name and value as they were written, without the white space around the value.
pub type Field = (String, String);

/// What the bytes begin with.
#[derive(Debug)]
pub enum Begin {
    /// A message and how many bytes it takes.
    Whole(Box<Message>, usize),
    /// What may become one.
    Part,
    /// What never will, and why.
    Malformed(String),
}

/// How a body ends.
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// Some when whole, none when more is needed.
type Step<T> = Result<Option<T>, String>;

/// Reads a request.
pub fn request(bytes: &[u8]) -> Begin {
    begin(whole(bytes, false, |head| {
        request_line(&head.start)?;
        if head.values("host").len() != 1 {
            return Err(format!("{} Host fields", head.values("host").len()));
        }
        match framing(head)? {
            // RFC 9112 section 6.1: it did not exist then.
            Some(Framing::Chunked) if head.start.ends_with("1.0") => Err("chunked in HTTP/1.0".to_owned()),
            framing => Ok(framing.unwrap_or(Framing::Length(0))),
        }
    }))
}

/// Reads a response to a request by `method`; `ended` tells that nothing follows the bytes.
pub fn response(bytes: &[u8], method: &str, ended: bool) -> Begin {
    begin(whole(bytes, ended, |head| {
        let status = status_line(&head.start)?;
        let framing = framing(head)?;
        let bodiless = status < 200 || status == 204;
        if bodiless && framing.is_some() {
            return Err(format!("a {status} with Content-Length or Transfer-Encoding"));
        }
        Ok(if bodiless || status == 304 || method == "HEAD" {
            Framing::Length(0)
        } else {
            framing.unwrap_or(Framing::Close)
        })
    }))
}

/// Whether there is a whole head.
pub fn has_head(bytes: &[u8]) -> bool {
    matches!(head(bytes), Ok(Some(_)))
}

/// Whether the sender of a request waits for leave to send its body (RFC 9110 section 10.1.1).
pub fn expects(bytes: &[u8]) -> bool {
    matches!(head(bytes), Ok(Some((head, _))) if head.values("expect") == ["100-continue"])
}

impl Message {
    /// The values of all fields called `name`, in any case.
    pub fn values(&self, name: &str) -> Vec<&str> {
        let own = |field: &&Field| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(own).map(|(_, value)| value.as_str()).collect()
    }

    /// The method, if this is a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// The target, if this is a request.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The status, if this is a response.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }
}

fn begin(read: Step<(Message, usize)>) -> Begin {
    match read {
        Ok(Some((message, length))) => Begin::Whole(Box::new(message), length),
        Ok(None) => Begin::Part,
        Err(why) => Begin::Malformed(why),
    }
}

fn whole(bytes: &[u8], ended: bool, framing: impl Fn(&Message) -> Result<Framing, String>) -> Step<(Message, usize)> {
    let Some((mut message, length)) = head(bytes)? else { return Ok(None) };
    let rest = &bytes[length..];
    match framing(&message)? {
        Framing::Length(body) if rest.len() < body => Ok(None),
        Framing::Length(body) => {
            message.body = rest[..body].to_vec();
            Ok(Some((message, length + body)))
        }
        Framing::Close if ended => {
            message.body = rest.to_vec();
            Ok(Some((message, bytes.len())))
        }
        Framing::Close => Ok(None),
        Framing::Chunked => {
            let Some(end) = chunks(rest, &mut message)? else { return Ok(None) };
            Ok(Some((message, length + end)))
        }
    }
}

/// Start line and fields, and how many bytes they take with the empty line.
fn head(bytes: &[u8]) -> Step<(Message, usize)> {
    let Some((start, mut at)) = line(bytes, 0)? else { return Ok(None) };
    let mut message = Message { start: text(start), fields: Vec::new(), body: Vec::new(), trailers: Vec::new() };
    let Some(fields) = fields(bytes, &mut at)? else { return Ok(None) };
    message.fields = fields;
    Ok(Some((message, at)))
}

/// Fields from `at` on up to the empty line, which `at` is behind afterwards.
fn fields(bytes: &[u8], at: &mut usize) -> Step<Vec<Field>> {
    let mut fields = Vec::new();
    loop {
        let Some((line, next)) = line(bytes, *at)? else { return Ok(None) };
        *at = next;
        if line.is_empty() {
            return Ok(Some(fields));
        }
        fields.push(field(line)?);
    }
}

/// The line at `from` and where the next begins. Only CRLF ends a line, and nothing else may look as if it did. Other
/// control characters are not valid in a value either, but harmless there (RFC 9110 section 5.5).
fn line(bytes: &[u8], from: usize) -> Step<(&[u8], usize)> {
    let rest = &bytes[from..];
    let end = rest.windows(2).position(|pair| pair == b"\r\n");
    let line = &rest[..end.unwrap_or(rest.len())];
    let line = if end.is_none() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    match line.iter().find(|byte| b"\r\n\0".contains(byte)) {
        Some(byte) => Err(format!("the control character {byte:#04x} in {:?}", lossy(line))),
        None => Ok(end.map(|end| (line, from + end + 2))),
    }
}

fn field(line: &[u8]) -> Result<Field, String> {
    let line = text(line);
    let (name, value) = line.split_once(':').ok_or_else(|| format!("no colon in {line:?}"))?;
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(format!("the field name {name:?}"));
    }
    Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
}

/// RFC 9112 section 3: single spaces, and a target in a form that every server must read.
fn request_line(line: &str) -> Result<(), String> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = parts[..] else {
        return Err(format!("the request line {line:?}"));
    };
    let is_form = target == "*" || target.starts_with('/') || target.contains("://") || method == "CONNECT";
    let target_is_good = is_form && !target.contains(|c: char| c.is_ascii_control());
    if method.is_empty() || !method.bytes().all(is_token) || !target_is_good {
        return Err(format!("the request line {line:?}"));
    }
    Ok(())
}

fn status_line(line: &str) -> Result<u16, String> {
    let bad = || format!("the status line {line:?}");
    let (version, rest) = line.split_once(' ').ok_or_else(bad)?;
    let status = rest.split_once(' ').map_or(rest, |(status, _)| status);
    let digits = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") || !digits {
        return Err(bad());
    }
    status.parse().ok().filter(|status| (100..600).contains(status)).ok_or_else(bad)
}

/// How the body ends, if a field says so: at most one does, in the one way to write it (RFC 9112 section 6).
fn framing(head: &Message) -> Result<Option<Framing>, String> {
    let (lengths, codings) = (head.values("content-length"), head.values("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(None),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
            let length = length.parse().map_err(|_| format!("the length {length:?}"))?;
            Ok(Some(Framing::Length(length)))
        }
        _ => Err(format!("Content-Length {lengths:?} with Transfer-Encoding {codings:?}")),
    }
}

/// Reads a chunked body into the message (RFC 9112 section 7.1), and gives its length. Extensions are for the hop
/// that they came on, so that a proxy has no reason to write one.
fn chunks(bytes: &[u8], message: &mut Message) -> Step<usize> {
    let mut at = 0;
    loop {
        let Some((digits, next)) = line(bytes, at)? else { return Ok(None) };
        at = next;
        let are_digits = !digits.is_empty() && digits.len() < 16 && digits.iter().all(u8::is_ascii_hexdigit);
        let size = usize::from_str_radix(&lossy(digits), 16).ok().filter(|_| are_digits);
        let size = size.ok_or_else(|| format!("a chunk of size {:?}", lossy(digits)))?;
        if size == 0 {
            let Some(trailers) = fields(bytes, &mut at)? else { return Ok(None) };
            message.trailers = trailers;
            return Ok(Some(at));
        }
        let Some(data) = bytes.get(at..at + size) else { return Ok(None) };
        message.body.extend_from_slice(data);
        at += size;
        match &bytes[at..] {
            [b'\r', b'\n', ..] => at += 2,
            [] | [b'\r'] => return Ok(None),
            _ => return Err(format!("a chunk of {size} bytes does not end there")),
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes of any value as text, one character a byte.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed(begin: Begin) -> bool {
        matches!(begin, Begin::Malformed(_))
    }

    #[test]
    fn a_request_is_read_with_its_body() {
        let bytes =
            b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: \ty \r\n\r\nrest";
        let Begin::Whole(message, length) = request(bytes) else { panic!("not whole") };
        assert_eq!((message.method(), message.target(), &message.body[..]), ("POST", "/a", &b"abc"[..]));
        assert_eq!(message.trailers, [("X".to_owned(), "y".to_owned())]);
        assert_eq!(&bytes[length..], b"rest");
        for end in 0..length {
            assert!(matches!(request(&bytes[..end]), Begin::Part), "{end}");
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_malformed() {
        for head in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/0.9\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab0\r\n\r\n",
        ] {
            assert!(malformed(request(head.as_bytes())), "{head:?}");
        }
    }

    #[test]
    fn a_response_ends_as_its_request_and_status_say() {
        let length = |bytes: &str, method, ended| match response(bytes.as_bytes(), method, ended) {
            Begin::Whole(_, length) => Some(length),
            Begin::Part => None,
            Begin::Malformed(why) => panic!("{bytes:?}: {why}"),
        };
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", "GET", false), Some(40));
        assert_eq!(length("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", "HEAD", false), Some(38));
        assert_eq!(length("HTTP/1.1 304 \r\nContent-Length: 2\r\n\r\nabc", "GET", false), Some(36));
        assert_eq!(length("HTTP/1.1 200 OK\r\n\r\nabc", "GET", false), None);
        assert_eq!(length("HTTP/1.1 200 OK\r\n\r\nabc", "GET", true), Some(22));
        assert!(malformed(response(b"HTTP/1.1 204 \r\nContent-Length: 0\r\n\r\n", "GET", false)));
        assert!(malformed(response(b"HTTP/1.1 2000 OK\r\n\r\n", "GET", false)));
    }
}
