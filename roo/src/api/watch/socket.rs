//! A watch over a websocket: one message for each event. A client may send `progress` to get a progress mark.

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;

use super::reader::Reader;

/// Clients have little to say.
const MESSAGE_BYTES_MAX: usize = 4096;

/// What a client sends to be told how far it is.
const PROGRESS: &str = "progress";

/// Takes the connection over.
pub(super) fn serve(upgrade: WebSocketUpgrade, reader: Reader) -> Response {
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(|socket| async move {
        // A client that has left needs no good-bye.
        drop(run(socket, reader).await);
    })
}

async fn run(mut socket: WebSocket, mut reader: Reader) -> Result<(), axum::Error> {
    loop {
        tokio::select! {
            lines = reader.next() => match lines {
                Some(lines) => send(&mut socket, &lines).await?,
                None => break,
            },
            message = socket.recv() => match message.transpose()? {
                Some(Message::Text(text)) if text.as_str().trim() == PROGRESS => {
                    if let Some(mark) = reader.mark() {
                        send(&mut socket, &mark).await?;
                    }
                }
                Some(Message::Close(_)) | None => return Ok(()),
                Some(_) => {}
            },
        }
    }
    let close = CloseFrame { code: close_code::AWAY, reason: Utf8Bytes::from_static("no more events come") };
    socket.send(Message::Close(Some(close))).await
}

/// Sends each line as a message of its own, without copying it.
async fn send(socket: &mut WebSocket, lines: &Bytes) -> Result<(), axum::Error> {
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let text = Utf8Bytes::try_from(lines.slice_ref(line)).map_err(axum::Error::new)?;
        socket.send(Message::Text(text)).await?;
    }
    Ok(())
}
