//! `roo healthcheck`: for container health checks, where no other client is at hand.

use bytes::Bytes;
use http::Method;

use super::Failure;
use super::client::ClientArgs;

pub(super) async fn run(client: &ClientArgs) -> Result<(), Failure> {
    let answer = client.send(Method::GET, "/livez", Bytes::new()).await?;
    print!("{}", String::from_utf8_lossy(&answer));
    Ok(())
}
