//! A case: what a client sends, what an upstream answers, and what either must have seen afterwards.
//!
//! Whatever a case sends that must not come through has the word `evil` in it: no field of a request that an upstream
//! gets, and nothing that a client gets, may hold it.

use std::fmt;

/// What happens, in order, and what is demanded.
#[derive(Clone)]
pub struct Case {
    pub protocol: Protocol,
    pub steps: Vec<Step>,
    /// What the upstream writes for each request; for those after them, [`answer`].
    pub script: Vec<Script>,
    /// The requests that the upstream must see, whole, and what the client must get for each.
    pub wants: Vec<Want>,
    pub end: End,
    /// Whether refusing is as good.
    pub may_refuse: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 in the clear.
    H1,
    /// HTTP/2 over TLS; what is sent are frames.
    H2,
}

#[derive(Clone)]
pub enum Step {
    Send(Vec<u8>),
    /// One byte a segment.
    Dribble(Vec<u8>),
    /// Waits for this many final responses, of all that came so far.
    Answers(usize),
    /// Waits for an interim response, or a final one.
    Interim,
    /// Waits until the upstream has got something.
    Upstream,
    /// The upstream writes out of turn, on its newest connection.
    UpstreamSays(Vec<u8>),
    /// Sends no more, but reads on.
    HalfClose,
    /// Is gone.
    Vanish,
}

/// What the upstream writes when a request has come in.
#[derive(Clone, Debug)]
pub struct Script {
    pub bytes: Vec<u8>,
    pub then: Then,
    /// Written as soon as the head is there.
    pub is_early: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Waits for the next request.
    Keep,
    /// As `Keep`, with one byte a segment.
    Dribble,
    Close,
    /// Sends back whatever comes.
    Echo,
}

/// A request that must come through.
#[derive(Clone)]
pub struct Want {
    pub line: Option<&'static str>,
    pub host: &'static str,
    pub body: Vec<u8>,
    /// Fields that must be there with this value.
    pub kept: Vec<(&'static str, &'static str)>,
    /// Fields that must not be there.
    pub gone: Vec<&'static str>,
    pub method: &'static str,
    pub got: Got,
}

/// What the client gets for a request.
#[derive(Clone)]
pub enum Got {
    /// This answer, whole.
    Answer { status: u16, body: Vec<u8> },
    /// An answer that says 502 or the like, or one that breaks off: never one that looks whole. If it does, that is
    /// a fault of the kind.
    Failure { kind: Kind },
    /// Either.
    AnswerOrFailure { status: u16, body: Vec<u8> },
    /// The upgrade, and these bytes afterwards.
    Tunnel { bytes: Vec<u8> },
}

/// What becomes of the connection after the wanted requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It goes on; the next request on it is served.
    Open,
    /// The proxy closes it after the last answer.
    Closed,
    /// Either.
    Any,
    /// What comes next is refused: one error at most, then the connection is closed (HTTP/2: or the stream reset).
    /// Not a byte of it reaches an upstream.
    Refused,
    /// As `Refused`, but found out only in the body: the upstream may have seen the beginning, never the end.
    Cut,
    /// The proxy itself answers with an error; the connection may go on. Nothing reaches an upstream.
    Answered,
}

/// The host that all routes are for.
pub const HOST: &str = "shop.test";

/// What the upstream says to its request number `index`, counted from 1.
pub fn answer(index: usize) -> String {
    format!("answer {index}")
}

/// A case over HTTP/1.1 that sends these bytes.
pub fn sends(bytes: impl AsRef<[u8]>) -> Case {
    Case {
        protocol: Protocol::H1,
        steps: vec![Step::Send(bytes.as_ref().to_vec())],
        script: Vec::new(),
        wants: Vec::new(),
        end: End::Open,
        may_refuse: false,
    }
}

/// A case over HTTP/2 that sends these frames.
pub fn frames(bytes: impl AsRef<[u8]>) -> Case {
    Case { protocol: Protocol::H2, ..sends(bytes) }
}

/// `GET /` with further fields, each ended by CRLF.
pub fn get(fields: &str) -> Case {
    sends(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"))
}

/// `POST /` with further fields, each ended by CRLF, and what follows the empty line.
pub fn post(fields: &str, rest: &str) -> Case {
    sends(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n{rest}"))
}

/// A chunked `POST /`: what follows the empty line.
pub fn chunked(rest: impl AsRef<[u8]>) -> Case {
    let head = format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n");
    sends([head.as_bytes(), rest.as_ref()].concat())
}

/// `GET /` with the answer of the upstream to it, which then closes.
pub fn answered(bytes: impl AsRef<[u8]>) -> Case {
    get("").script(bytes, Then::Close)
}

impl Case {
    pub fn then(mut self, step: Step) -> Case {
        self.steps.push(step);
        self
    }

    pub fn send(self, bytes: impl AsRef<[u8]>) -> Case {
        let bytes = bytes.as_ref().to_vec();
        self.then(Step::Send(bytes))
    }

    pub fn script(mut self, bytes: impl AsRef<[u8]>, then: Then) -> Case {
        self.script.push(Script { bytes: bytes.as_ref().to_vec(), then, is_early: false });
        self
    }

    /// As `script`, but the upstream does not wait for the body.
    pub fn early(mut self, bytes: impl AsRef<[u8]>, then: Then) -> Case {
        self.script.push(Script { bytes: bytes.as_ref().to_vec(), then, is_early: true });
        self
    }

    /// Demands one request more; what follows is about it.
    pub fn passes(mut self) -> Case {
        let body = answer(self.wants.len() + 1).into_bytes();
        self.wants.push(Want {
            line: None,
            host: HOST,
            body: Vec::new(),
            kept: Vec::new(),
            gone: Vec::new(),
            method: "GET",
            got: Got::Answer { status: 200, body },
        });
        self
    }

    fn want(mut self, change: impl FnOnce(&mut Want)) -> Case {
        change(self.wants.last_mut().expect("a case passes before it says with what"));
        self
    }

    pub fn line(self, line: &'static str) -> Case {
        self.want(|want| want.line = Some(line))
    }

    pub fn host(self, host: &'static str) -> Case {
        self.want(|want| want.host = host)
    }

    pub fn body(self, body: impl AsRef<[u8]>) -> Case {
        self.want(|want| want.body = body.as_ref().to_vec())
    }

    pub fn kept(self, name: &'static str, value: &'static str) -> Case {
        self.want(|want| want.kept.push((name, value)))
    }

    pub fn gone(self, name: &'static str) -> Case {
        self.want(|want| want.gone.push(name))
    }

    /// The answer to it has no body because of its method.
    pub fn asked_by_head(self) -> Case {
        self.want(|want| want.method = "HEAD").gets(200, "")
    }

    pub fn gets(self, status: u16, body: impl AsRef<[u8]>) -> Case {
        self.want(|want| want.got = Got::Answer { status, body: body.as_ref().to_vec() })
    }

    pub fn gets_or_fails(self, status: u16, body: impl AsRef<[u8]>) -> Case {
        self.want(|want| want.got = Got::AnswerOrFailure { status, body: body.as_ref().to_vec() }).end(End::Any)
    }

    pub fn fails(self) -> Case {
        self.want(|want| want.got = Got::Failure { kind: Kind::Framing }).end(End::Any)
    }

    /// As `fails`, where an answer that looks whole has the right body.
    pub fn declined(self) -> Case {
        self.want(|want| want.got = Got::Failure { kind: Kind::Lax }).end(End::Any)
    }

    pub fn tunnels(self, bytes: impl AsRef<[u8]>) -> Case {
        self.want(|want| want.got = Got::Tunnel { bytes: bytes.as_ref().to_vec() }).end(End::Any)
    }

    pub fn end(mut self, end: End) -> Case {
        self.end = end;
        self
    }

    pub fn closes(self) -> Case {
        self.end(End::Closed)
    }

    pub fn refused(self) -> Case {
        self.end(End::Refused)
    }

    pub fn cut(self) -> Case {
        self.end(End::Cut)
    }

    pub fn or_refused(mut self) -> Case {
        self.may_refuse = true;
        self
    }

    /// Everything that is sent.
    pub fn sent(&self) -> Vec<u8> {
        let sent = |step: &Step| match step {
            Step::Send(bytes) | Step::Dribble(bytes) => bytes.clone(),
            _ => Vec::new(),
        };
        self.steps.iter().flat_map(sent).collect()
    }
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub kind: Kind,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A message that others may read differently, one too many, a wrong body, or an answer to another request.
    Framing,
    /// A field that must not, or must, be there, or another request line.
    Header,
    /// What is to be refused came through in one clear form, or the connection stayed open.
    Lax,
    /// What is right did not come through.
    Lost,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
