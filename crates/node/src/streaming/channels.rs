//! The channels of exec and attach: each WebSocket message begins with the number of the stream that it belongs to.
//! Pure.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Its content is the number of the channel that the client has finished (v5).
const CLOSE: u8 = 255;

/// What both sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    pub name: &'static str,
    base64: bool,
    closes: bool,
}

/// Those that are spoken here, the best first.
pub const PROTOCOLS: [Protocol; 3] = [
    Protocol { name: "v5.channel.k8s.io", base64: false, closes: true },
    Protocol { name: "v4.channel.k8s.io", base64: false, closes: false },
    Protocol { name: "v4.base64.channel.k8s.io", base64: true, closes: false },
];

/// What the client said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Stdin(Bytes),
    CloseStdin,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// Something that means nothing here: empty messages, unknown channels.
    Nothing,
    /// The client goes.
    Gone,
}

impl Protocol {
    /// The first of ours that the client offers (a comma-separated list).
    pub fn choose(offered: &str) -> Option<Protocol> {
        let offered: Vec<&str> = offered.split(',').map(str::trim).collect();
        PROTOCOLS.into_iter().find(|protocol| offered.contains(&protocol.name))
    }

    /// Understands a message.
    pub fn read(self, message: Message) -> Input {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return Input::Gone,
            _ => return Input::Nothing,
        };
        let Some((channel, rest)) = bytes.split_first() else { return Input::Nothing };
        let (channel, content) = if self.base64 {
            // Here the channel is a digit.
            let Ok(content) = STANDARD.decode(rest) else { return Input::Nothing };
            (channel.wrapping_sub(b'0'), Bytes::from(content))
        } else {
            (*channel, bytes.slice(1..))
        };
        match channel {
            STDIN => Input::Stdin(content),
            RESIZE => resize(&content).unwrap_or(Input::Nothing),
            CLOSE if self.closes && content.as_ref() == [STDIN] => Input::CloseStdin,
            _ => Input::Nothing,
        }
    }

    /// Bytes of a stream as a message.
    pub fn write(self, channel: u8, bytes: &[u8]) -> Message {
        if self.base64 {
            return Message::text(format!("{}{}", char::from(b'0' + channel), STANDARD.encode(bytes)));
        }
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel);
        message.extend_from_slice(bytes);
        Message::Binary(message.into())
    }

    /// How it ended, as a message.
    pub fn end(self, status: &Value) -> Message {
        self.write(ERROR, status.to_string().as_bytes())
    }
}

fn resize(content: &[u8]) -> Option<Input> {
    let size: Value = serde_json::from_slice(content).ok()?;
    let side = |name: &str| size.get(name).and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
    Some(Input::Resize { columns: side("Width")?, rows: side("Height")? })
}

/// The `Status` of a command that ended.
pub fn ended(exit_code: i32) -> Value {
    if exit_code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
        "message": format!("command terminated with non-zero exit code: exit code {exit_code}"),
        "details": {"causes": [{"reason": "ExitCode", "message": exit_code.to_string()}]},
    })
}

/// The `Status` of something that could not be done.
pub fn failed(error: &str) -> Value {
    json!({
        "metadata": {}, "status": "Failure", "reason": "InternalError", "code": 500,
        "message": format!("Internal error occurred: {error}"),
        "details": {"causes": [{"message": error}]},
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_common_protocol_is_chosen() {
        let name = |offered: &str| Protocol::choose(offered).map(|protocol| protocol.name);
        assert_eq!(name("v4.channel.k8s.io, v5.channel.k8s.io"), Some("v5.channel.k8s.io"));
        assert_eq!(name("v4.base64.channel.k8s.io"), Some("v4.base64.channel.k8s.io"));
        assert_eq!(name("channel.k8s.io"), None);
    }

    #[test]
    fn messages_are_channels() {
        let [v5, v4, text] = PROTOCOLS;
        let binary = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
        assert_eq!(v5.read(binary(b"\x00ls\n")), Input::Stdin(Bytes::from_static(b"ls\n")));
        assert_eq!(v5.read(binary(b"\xff\x00")), Input::CloseStdin);
        assert_eq!(v4.read(binary(b"\xff\x00")), Input::Nothing);
        assert_eq!(v5.read(binary(b"\x04{\"Width\":80,\"Height\":24}")), Input::Resize { columns: 80, rows: 24 });
        assert_eq!(v5.read(binary(b"\x04{\"Width\":-1,\"Height\":24}")), Input::Nothing);
        assert_eq!(v5.read(binary(b"")), Input::Nothing);
        assert_eq!(v5.read(Message::Close(None)), Input::Gone);
        assert_eq!(text.read(Message::text("0bHM=")), Input::Stdin(Bytes::from_static(b"ls")));
        assert_eq!(text.write(STDOUT, b"ls"), Message::text("1bHM="));
        assert_eq!(v5.write(STDERR, b"no"), binary(b"\x02no"));
    }

    #[test]
    fn a_commands_end_is_a_status() {
        assert_eq!(ended(0), json!({"metadata": {}, "status": "Success"}));
        let status = ended(3);
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["message"]),
            (&json!("NonZeroExitCode"), &json!("3"))
        );
    }

    proptest! {
        #[test]
        fn any_message_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for protocol in PROTOCOLS {
                protocol.read(Message::Binary(bytes.clone().into()));
            }
        }
    }
}
