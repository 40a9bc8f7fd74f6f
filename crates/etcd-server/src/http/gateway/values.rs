//! The JSON values of a request's body, one after the other, as they arrive.

use axum::body::{Body, BodyDataStream};
use futures::TryStreamExt;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use serde_json::{Deserializer, Value};
use store_api::StoreError;
use tonic::Status;

use crate::codes;

pub(super) struct Values {
    body: BodyDataStream,
    /// What has arrived and was not read yet; at most one value and the rest of a portion.
    buffer: Vec<u8>,
    limit: usize,
    ended: bool,
}

impl Values {
    pub fn new(body: Body, limit: usize) -> Self {
        Values { body: body.into_data_stream(), buffer: Vec::new(), limit, ended: false }
    }

    /// The next value as a message. Both spellings of a field's name are read; names that are not known are passed
    /// over, as etcd's gateway does.
    pub async fn message(&mut self, kind: &MessageDescriptor) -> Result<Option<DynamicMessage>, Status> {
        let Some(value) = self.next().await? else { return Ok(None) };
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let message = DynamicMessage::deserialize_with_options(kind.clone(), value, &options);
        message.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }

    async fn next(&mut self) -> Result<Option<Value>, Status> {
        loop {
            let mut values = Deserializer::from_slice(&self.buffer).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    let read = values.byte_offset();
                    self.buffer.drain(..read);
                    return Ok(Some(value));
                }
                Some(Err(error)) if self.ended || !error.is_eof() => {
                    let text = if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() };
                    return Err(Status::invalid_argument(text));
                }
                None if self.ended => return Ok(None),
                Some(Err(_)) | None => self.read().await?,
            }
        }
    }

    async fn read(&mut self) -> Result<(), Status> {
        let portion = self.body.try_next().await;
        match portion.map_err(|error| Status::invalid_argument(error.to_string()))? {
            Some(portion) => self.buffer.extend_from_slice(&portion),
            None => self.ended = true,
        }
        if self.buffer.len() > self.limit {
            let error = StoreError::TooLarge { size: self.buffer.len(), limit: self.limit };
            return Err(codes::status(&error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn values_are_read_however_they_arrive() {
        let check = async |portions: &[&'static str], expected: &[&str]| {
            let portions: Vec<_> =
                portions.iter().map(|p| Ok::<_, Infallible>(Bytes::from_static(p.as_bytes()))).collect();
            let mut values = Values::new(Body::from_stream(stream::iter(portions)), 32);
            let mut told = Vec::new();
            loop {
                match values.next().await {
                    Ok(Some(value)) => told.push(value.to_string()),
                    Ok(None) => break,
                    Err(status) => {
                        told.push(status.message().to_owned());
                        break;
                    }
                }
            }
            assert_eq!(told, expected);
        };
        check(&[], &[]).await;
        check(&["{}"], &["{}"]).await;
        check(&["{\"a\":", "1}", "{}\n", " {\"b\":2}"], &[r#"{"a":1}"#, "{}", r#"{"b":2}"#]).await;
        check(&["{\"a\":"], &["unexpected EOF"]).await;
        check(&["{} x"], &["{}", "expected value at line 1 column 2"]).await;
        check(&["{\"a\":\"0123456789", "0123456789012345678\"}"], &["etcdserver: request is too large"]).await;
    }
}
