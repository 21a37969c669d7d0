//! Signed requests that the ACME library has no word for: looking at what the account has ordered, and giving it a key that
//! was stored before.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderMap, Method, Request, Response};
use instant_acme::{BodyWrapper, Error, Problem};
use rustls_pki_types::PrivatePkcs8KeyDer;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::fault::Fault;
use super::http::Https;

/// Speaks for an account (RFC 8555 section 6).
pub(super) struct Caller {
    http: Https,
    directory: String,
    /// The account's URL.
    account: String,
    key: Key,
}

/// A key that signs requests: ECDSA on P-256 (ES256, RFC 7518 section 3.4).
pub(super) struct Key(EcdsaKeyPair);

/// Where things are (RFC 8555 section 7.1.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    key_change: Option<String>,
}

impl Caller {
    pub(super) fn new(http: Https, directory: &str, account: &str, key: Key) -> Self {
        Self { http, directory: directory.to_owned(), account: account.to_owned(), key }
    }

    /// The URLs of the account's orders as the CA lists them (RFC 8555 section 7.1.2.1), of very many the last;
    /// `None` if it keeps no list.
    pub(super) async fn orders(&self) -> Result<Option<Vec<String>>, Fault> {
        #[derive(Deserialize)]
        struct Account {
            orders: Option<String>,
        }
        /// As the RFC has it, and as step-ca has it.
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Page {
            Named { orders: Vec<String> },
            Bare(Vec<String>),
        }
        let Account { orders: Some(first) } = self.look(&self.account).await? else { return Ok(None) };
        let (mut next, mut listed) = (Some(first), Vec::new());
        for _ in 0..PAGES_MAX {
            let Some(url) = next else { break };
            let page = self.post(&url, None).await?;
            // A list that can't be read is none.
            let Ok(Page::Named { orders } | Page::Bare(orders)) = parse(&page) else { return Ok(None) };
            listed.extend(orders);
            listed.drain(..listed.len().saturating_sub(LISTED_MAX));
            next = next_page(page.headers());
        }
        Ok(Some(listed))
    }

    /// What the CA shows at `url` (POST-as-GET, RFC 8555 section 6.3).
    pub(super) async fn look<T: DeserializeOwned>(&self, url: &str) -> Result<T, Fault> {
        parse(&self.post(url, None).await?)
    }

    /// Whether the CA has an account with this key (RFC 8555 section 7.3.1).
    pub(super) async fn knows(&self, key: &Key) -> Result<bool, Fault> {
        let Directory { new_account, .. } = self.directory().await?;
        let existing = json!({ "onlyReturnExisting": true });
        match self.post_by(key, &json!({ "jwk": key.jwk() }), &new_account, Some(&existing)).await {
            Ok(_) => Ok(true),
            Err(Fault::AccountGone { .. } | Fault::Refused { .. } | Fault::Unwilling { .. }) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Whether the CA has an account with the present key.
    pub(super) async fn knows_its_own(&self) -> Result<bool, Fault> {
        self.knows(&self.key).await
    }

    /// Puts `next` in the place of the account's key (RFC 8555 section 7.3.5).
    pub(super) async fn change_key(&self, next: &Key) -> Result<(), Fault> {
        let Directory { key_change: Some(url), .. } = self.directory().await? else {
            return Err(Fault::Refused { reason: "it changes no keys of accounts".to_owned() });
        };
        let protected = json!({ "alg": "ES256", "jwk": next.jwk(), "url": url });
        let change = json!({ "account": self.account, "oldKey": self.key.jwk() });
        self.post(&url, Some(&next.signed(&protected, Some(&change))?)).await.map(drop)
    }

    async fn post(&self, url: &str, payload: Option<&Value>) -> Result<Response<Bytes>, Fault> {
        self.post_by(&self.key, &json!({ "kid": self.account }), url, payload).await
    }

    /// Posts `payload`, or asks by an empty one, signed by `who`. A nonce that is not taken is followed by another, which
    /// the CA gives with its refusal (RFC 8555 section 6.5).
    async fn post_by(
        &self,
        key: &Key,
        who: &Value,
        url: &str,
        payload: Option<&Value>,
    ) -> Result<Response<Bytes>, Fault> {
        let Directory { new_nonce, .. } = self.directory().await?;
        let mut nonce = nonce_in(self.ask(Method::HEAD, &new_nonce).await?.headers())?;
        for _ in 0..NONCES_MAX {
            let mut protected = json!({ "alg": "ES256", "nonce": nonce, "url": url });
            if let (Some(protected), Some(who)) = (protected.as_object_mut(), who.as_object()) {
                protected.extend(who.clone());
            }
            let body = key.signed(&protected, payload)?.to_string();
            let request =
                Request::builder().method(Method::POST).uri(url).header(CONTENT_TYPE, "application/jose+json");
            let answer =
                self.http.clone().exchange(request.body(body.into_bytes().into()).map_err(Error::from)?).await?;
            if answer.status().is_success() {
                return Ok(answer);
            }
            let problem: Problem = parse(&answer)?;
            if problem.r#type.as_deref() != Some(BAD_NONCE) {
                return Err(Fault::from(&problem));
            }
            nonce = nonce_in(answer.headers())?;
        }
        Err(Fault::Unreachable { reason: "it takes none of its own nonces".to_owned() })
    }

    async fn directory(&self) -> Result<Directory, Fault> {
        parse(&self.ask(Method::GET, &self.directory).await?)
    }

    async fn ask(&self, method: Method, url: &str) -> Result<Response<Bytes>, Fault> {
        let request = Request::builder().method(method).uri(url).body(BodyWrapper::default()).map_err(Error::from)?;
        Ok(self.http.clone().exchange(request).await?)
    }
}

impl Key {
    /// From PKCS#8.
    pub(super) fn new(der: &PrivatePkcs8KeyDer<'_>) -> Result<Self, Fault> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        Ok(Self(key.map_err(|_| Error::KeyRejected)?))
    }

    /// The public half (RFC 7518 section 6.2.1): the point is uncompressed, both halves behind one byte.
    fn jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let text = |half: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(half);
        json!({ "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y) })
    }

    /// `payload`, or nothing, with its signature (RFC 7515 section 7.2.2).
    fn signed(&self, protected: &Value, payload: Option<&Value>) -> Result<Value, Fault> {
        let protected = BASE64_URL_SAFE_NO_PAD.encode(protected.to_string());
        let payload = payload.map(|payload| BASE64_URL_SAFE_NO_PAD.encode(payload.to_string())).unwrap_or_default();
        let signature = self.0.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.map_err(|_| Error::Crypto)?);
        Ok(json!({ "protected": protected, "payload": payload, "signature": signature }))
    }
}

fn parse<T: DeserializeOwned>(answer: &Response<Bytes>) -> Result<T, Fault> {
    Ok(serde_json::from_slice(answer.body()).map_err(Error::from)?)
}

fn nonce_in(headers: &HeaderMap) -> Result<String, Fault> {
    let nonce = headers.get("replay-nonce").and_then(|value| value.to_str().ok());
    nonce.map(str::to_owned).ok_or_else(|| Fault::Unreachable { reason: "it gave no nonce".to_owned() })
}

/// The URL of the relation `next` (RFC 8288 section 3); there may be several fields, and several links in one.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let fields = headers.get_all(LINK).into_iter().filter_map(|field| field.to_str().ok());
    fields.flat_map(|field| field.split(',')).find_map(|link| {
        let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = |parameter: &str| matches!(parameter.trim(), "rel=\"next\"" | "rel=next");
        parameters.split(';').any(is_next).then(|| url.to_owned())
    })
}

const BAD_NONCE: &str = "urn:ietf:params:acme:error:badNonce";

/// A CA that refuses one nonce in three takes one of so many.
const NONCES_MAX: usize = 10;

/// CAs list a few to hundreds of orders on a page.
const PAGES_MAX: usize = 1_000;

/// URLs of orders that are kept.
const LISTED_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
        let next = |fields: &[&str]| {
            let fields = fields.iter().map(|field| (LINK, field.parse().unwrap()));
            next_page(&fields.collect())
        };
        let index = "<https://ca.example/dir>;rel=\"index\"";
        let page = "<https://ca.example/orders?cursor=2>; rel=\"next\"";
        assert_eq!(next(&[index, page]).as_deref(), Some("https://ca.example/orders?cursor=2"));
        assert_eq!(next(&[&format!("{index}, {page}")]).as_deref(), Some("https://ca.example/orders?cursor=2"));
        for none in [&[][..], &[index], &["nonsense"], &["<open;rel=\"next\""]] {
            assert_eq!(next(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_request_bears_the_signature_of_its_header_and_payload() {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = Key::new(&PrivatePkcs8KeyDer::from(pair.serialize_der())).unwrap();
        let signed = key.signed(&json!({ "alg": "ES256" }), Some(&json!({ "a": 1 }))).unwrap();
        let text = |part: &str| signed[part].as_str().unwrap().to_owned();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.0.public_key().as_ref().to_owned());
        let signature = BASE64_URL_SAFE_NO_PAD.decode(text("signature")).unwrap();
        public.verify(format!("{}.{}", text("protected"), text("payload")).as_bytes(), &signature).unwrap();
        assert_eq!(key.signed(&json!({}), None).unwrap()["payload"], "");
    }
}
