//! A connection on which somebody asks: shown the password once, and the token with each request.

use etcd_proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient};
use store_api::StoreError;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use crate::{ConnectError, Options, connect, snapshot::within};

/// The header that carries a user's token.
const TOKEN: &str = "token";

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub password: String,
}

/// The first endpoint that answers, and the token that it has given.
pub(crate) struct Session {
    pub channel: Channel,
    token: Option<MetadataValue<Ascii>>,
    endpoints: String,
}

impl Session {
    pub async fn open(options: &Options, user: Option<&User>) -> Result<Self, ConnectError> {
        let channel = connect::channel(options)?;
        let mut session = Session { channel, token: None, endpoints: options.endpoints.join(", ") };
        if let Some(User { name, password }) = user {
            let asked = AuthenticateRequest { name: name.clone(), password: password.clone() };
            let mut auth = AuthClient::new(session.channel.clone());
            let answer = within(options.request_timeout, auth.authenticate(asked)).await;
            let token = answer.map_err(|source| session.failed(source))?.token;
            let wrong = |_| StoreError::InvalidArgument("the token cannot be sent".to_owned());
            session.token = Some(MetadataValue::try_from(token).map_err(wrong).map_err(|e| session.failed(e))?);
        }
        Ok(session)
    }

    /// A message in the user's name.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert(TOKEN, token.clone());
        }
        request
    }

    pub fn failed(&self, source: StoreError) -> ConnectError {
        ConnectError::Unreachable { endpoints: self.endpoints.clone(), source }
    }
}
