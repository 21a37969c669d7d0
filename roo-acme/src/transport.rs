//! How requests get to a CA.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::{Request, Response};

/// Carries a request to a CA and its answer back, in place of HTTPS: [`crate::Settings::transport`].
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// One exchange. An error means that no answer came; dropping the future leaves open whether the request arrived.
    fn exchange(&self, request: Request<Bytes>) -> Exchange;
}

/// What [`Transport::exchange`] returns.
pub type Exchange = Pin<Box<dyn Future<Output = Result<Response<Bytes>, Box<dyn Error + Send + Sync>>> + Send>>;
