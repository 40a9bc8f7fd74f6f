//! Service Auth: users, roles, permissions, and tokens for passwords.
//!
//! Passwords end here: what goes on to the store is a hash. Knows no permission; the store decides who may change what.

mod certificate;
mod gate;
mod jwt;
mod keys;
mod options;
mod password;

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use etcd_proto::{
    authpb,
    etcdserverpb::{
        AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse, AuthRoleAddRequest,
        AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse, AuthRoleGetRequest, AuthRoleGetResponse,
        AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
        AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest, AuthStatusResponse,
        AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest, AuthUserChangePasswordResponse,
        AuthUserDeleteRequest, AuthUserDeleteResponse, AuthUserGetRequest, AuthUserGetResponse,
        AuthUserGrantRoleRequest, AuthUserGrantRoleResponse, AuthUserListRequest, AuthUserListResponse,
        AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse, AuthenticateRequest, AuthenticateResponse,
        ResponseHeader, auth_server::Auth,
    },
};
use store_api::{AuthAnswer, AuthChange, AuthError, AuthQuery, Caller, Demand, StoreError};
use tonic::{Request, Response, Status, async_trait};

use crate::{codes, shared::Shared};
pub use certificate::PeerName;
pub use gate::AuthOptions;
pub(crate) use gate::{Access, Gate, Head};
pub use jwt::{Jwt, KeyError, Method};
pub use options::{TokenKind, TokenOptionsError};
pub use password::DEFAULT_BCRYPT_COST;
use password::PasswordError;

/// How often a password is compared again because users or roles have changed meanwhile.
const MAX_COMPARISONS: usize = 8;

pub(crate) struct Service {
    shared: Arc<Shared>,
    gate: Arc<Gate>,
}

impl Service {
    pub fn new(shared: Arc<Shared>, gate: Arc<Gate>) -> Self {
        Service { shared, gate }
    }

    async fn caller<T>(&self, request: Request<T>) -> Result<(Option<Caller>, T), Status> {
        let (metadata, extensions, message) = request.into_parts();
        let caller = self.gate.caller(&(metadata, extensions)).await;
        Ok((caller.map_err(|error| codes::status(&error))?, message))
    }

    /// As [`Service::caller`], for what only root may do: nothing is hashed or read for anybody else.
    async fn admin<T>(&self, request: Request<T>) -> Result<(Option<Caller>, T), Status> {
        let (caller, message) = self.caller(request).await?;
        self.gate.auth.permit(caller.as_ref(), Demand::Admin).map_err(codes::auth)?;
        Ok((caller, message))
    }

    async fn change(&self, caller: Option<Caller>, change: AuthChange) -> Result<Option<ResponseHeader>, Status> {
        let revision = self.gate.auth.change(caller, change).await.map_err(|error| codes::status(&error))?;
        Ok(self.shared.header(revision))
    }

    async fn query<T>(
        &self,
        request: Request<T>,
        query: impl FnOnce(T) -> AuthQuery,
    ) -> Result<(Option<ResponseHeader>, AuthAnswer), Status> {
        let (caller, message) = self.caller(request).await?;
        let answer = self.gate.auth.query(caller, query(message)).await;
        let (revision, answer) = answer.map_err(|error| codes::status(&error))?;
        Ok((self.shared.header(revision), answer))
    }

    async fn names<T>(
        &self,
        request: Request<T>,
        query: impl FnOnce(T) -> AuthQuery,
    ) -> Result<(Option<ResponseHeader>, Vec<String>), Status> {
        match self.query(request, query).await? {
            (header, AuthAnswer::Names(names)) => Ok((header, names)),
            (_, other) => Err(unexpected(&other)),
        }
    }

    async fn hash(&self, password: String) -> Result<Bytes, Status> {
        self.gate.passwords.hash(password).await.map_err(|error| refused(&error))
    }

    /// A token for a user whose password is right. Users and roles may change while the password is compared; then it
    /// is compared once more.
    async fn token(&self, name: &str, password: &str) -> Result<String, Status> {
        let gate = &self.gate;
        for _ in 0..MAX_COMPARISONS {
            let expected = gate.auth.password_hash(name).await.map_err(|error| codes::status(&error))?;
            let right = gate.passwords.verify(password.to_owned(), expected.hash).await;
            if !right.map_err(|error| refused(&error))? {
                return Err(codes::auth(AuthError::Failed));
            }
            let token = match &gate.tokens {
                TokenKind::Simple => {
                    gate.auth.assign_token(name, prefix()).await.map_err(|error| codes::status(&error))?
                }
                TokenKind::Jwt(jwt) => {
                    let caller = Caller::new(name, expected.revision);
                    jwt.sign(&caller, gate.clock.now().as_second()).map_err(codes::auth)?
                }
            };
            if gate.auth.revision() == expected.revision {
                return Ok(token);
            }
        }
        Err(codes::auth(AuthError::OldRevision))
    }
}

/// Letters that nobody can guess.
fn prefix() -> String {
    const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    /// As many as etcd's tokens begin with.
    const LEN: usize = 16;
    let letter = |_| char::from(LETTERS[(runtime::entropy::random_u64() % LETTERS.len() as u64) as usize]);
    (0..LEN).map(letter).collect()
}

/// Why a watch was refused, as etcd writes it into a response: its library's own form of an error, code and all.
pub(crate) fn cancel_reason(error: AuthError) -> String {
    let told = match error {
        AuthError::InvalidToken | AuthError::OldRevision | AuthError::UserEmpty => error,
        _ => AuthError::PermissionDenied,
    };
    let status = codes::auth(told);
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

fn refused(error: &PasswordError) -> Status {
    match error {
        // etcd hands its library's words on without a code.
        PasswordError::TooLong => Status::unknown(error.to_string()),
        PasswordError::Busy(error) => codes::status(error),
    }
}

fn unexpected(answer: &AuthAnswer) -> Status {
    codes::status(&StoreError::Unavailable(format!("the store answers something else: {answer:?}")))
}

fn permission(permission: authpb::Permission) -> Result<store_api::Permission, Status> {
    use authpb::permission::Type;
    let kind = Type::try_from(permission.perm_type).map_err(|_| codes::auth(AuthError::InvalidManagement))?;
    let kind = match kind {
        Type::Read => store_api::PermissionKind::Read,
        Type::Write => store_api::PermissionKind::Write,
        Type::Readwrite => store_api::PermissionKind::ReadWrite,
    };
    Ok(store_api::Permission { kind, key: permission.key, range_end: permission.range_end })
}

fn permission_out(permission: store_api::Permission) -> authpb::Permission {
    use authpb::permission::Type;
    let kind = match permission.kind {
        store_api::PermissionKind::Read => Type::Read,
        store_api::PermissionKind::Write => Type::Write,
        store_api::PermissionKind::ReadWrite => Type::Readwrite,
    };
    authpb::Permission { perm_type: kind.into(), key: permission.key, range_end: permission.range_end }
}

#[async_trait]
impl Auth for Service {
    async fn auth_enable(&self, r: Request<AuthEnableRequest>) -> Result<Response<AuthEnableResponse>, Status> {
        let (caller, _) = self.caller(r).await?;
        Ok(Response::new(AuthEnableResponse { header: self.change(caller, AuthChange::Enable).await? }))
    }

    async fn auth_disable(&self, r: Request<AuthDisableRequest>) -> Result<Response<AuthDisableResponse>, Status> {
        let (caller, _) = self.caller(r).await?;
        Ok(Response::new(AuthDisableResponse { header: self.change(caller, AuthChange::Disable).await? }))
    }

    async fn auth_status(&self, r: Request<AuthStatusRequest>) -> Result<Response<AuthStatusResponse>, Status> {
        match self.query(r, |_| AuthQuery::Status).await? {
            (header, AuthAnswer::Status { enabled, revision }) => {
                Ok(Response::new(AuthStatusResponse { header, enabled, auth_revision: revision }))
            }
            (_, other) => Err(unexpected(&other)),
        }
    }

    async fn authenticate(&self, r: Request<AuthenticateRequest>) -> Result<Response<AuthenticateResponse>, Status> {
        let AuthenticateRequest { name, password } = r.into_inner();
        let token = self.token(&name, &password).await?;
        Ok(Response::new(AuthenticateResponse { header: self.shared.header_now().await?, token }))
    }

    async fn user_add(&self, r: Request<AuthUserAddRequest>) -> Result<Response<AuthUserAddResponse>, Status> {
        let (caller, r) = self.admin(r).await?;
        let no_password = r.options.is_some_and(|options| options.no_password);
        let hash = if no_password { Bytes::new() } else { self.hash(r.password).await? };
        let header = self.change(caller, AuthChange::UserAdd { name: r.name, hash, no_password }).await?;
        Ok(Response::new(AuthUserAddResponse { header }))
    }

    async fn user_get(&self, r: Request<AuthUserGetRequest>) -> Result<Response<AuthUserGetResponse>, Status> {
        let (header, roles) = self.names(r, |r| AuthQuery::UserGet(r.name)).await?;
        Ok(Response::new(AuthUserGetResponse { header, roles }))
    }

    async fn user_list(&self, r: Request<AuthUserListRequest>) -> Result<Response<AuthUserListResponse>, Status> {
        let (header, users) = self.names(r, |_| AuthQuery::UserList).await?;
        Ok(Response::new(AuthUserListResponse { header, users }))
    }

    async fn user_delete(&self, r: Request<AuthUserDeleteRequest>) -> Result<Response<AuthUserDeleteResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let header = self.change(caller, AuthChange::UserDelete { name: r.name }).await?;
        Ok(Response::new(AuthUserDeleteResponse { header }))
    }

    /// As in etcd, a caller may send the hash itself in place of the password.
    async fn user_change_password(
        &self,
        r: Request<AuthUserChangePasswordRequest>,
    ) -> Result<Response<AuthUserChangePasswordResponse>, Status> {
        let (caller, r) = self.admin(r).await?;
        let hash = if r.password.is_empty() {
            let hash = BASE64_STANDARD.decode(r.hashed_password);
            hash.map_err(|_| codes::auth(AuthError::NoPasswordUser))?.into()
        } else {
            self.hash(r.password).await?
        };
        let header = self.change(caller, AuthChange::UserChangePassword { name: r.name, hash }).await?;
        Ok(Response::new(AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        r: Request<AuthUserGrantRoleRequest>,
    ) -> Result<Response<AuthUserGrantRoleResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let header = self.change(caller, AuthChange::UserGrantRole { user: r.user, role: r.role }).await?;
        Ok(Response::new(AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        r: Request<AuthUserRevokeRoleRequest>,
    ) -> Result<Response<AuthUserRevokeRoleResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let header = self.change(caller, AuthChange::UserRevokeRole { user: r.name, role: r.role }).await?;
        Ok(Response::new(AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(&self, r: Request<AuthRoleAddRequest>) -> Result<Response<AuthRoleAddResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let header = self.change(caller, AuthChange::RoleAdd { name: r.name }).await?;
        Ok(Response::new(AuthRoleAddResponse { header }))
    }

    async fn role_get(&self, r: Request<AuthRoleGetRequest>) -> Result<Response<AuthRoleGetResponse>, Status> {
        match self.query(r, |r| AuthQuery::RoleGet(r.role)).await? {
            (header, AuthAnswer::Permissions(list)) => {
                let perm = list.into_iter().map(permission_out).collect();
                Ok(Response::new(AuthRoleGetResponse { header, perm }))
            }
            (_, other) => Err(unexpected(&other)),
        }
    }

    async fn role_list(&self, r: Request<AuthRoleListRequest>) -> Result<Response<AuthRoleListResponse>, Status> {
        let (header, roles) = self.names(r, |_| AuthQuery::RoleList).await?;
        Ok(Response::new(AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(&self, r: Request<AuthRoleDeleteRequest>) -> Result<Response<AuthRoleDeleteResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let header = self.change(caller, AuthChange::RoleDelete { name: r.role }).await?;
        Ok(Response::new(AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        r: Request<AuthRoleGrantPermissionRequest>,
    ) -> Result<Response<AuthRoleGrantPermissionResponse>, Status> {
        let (caller, r) = self.admin(r).await?;
        let given = r.perm.ok_or_else(|| codes::auth(AuthError::PermissionNotGiven))?;
        let change = AuthChange::RoleGrantPermission { role: r.name, permission: permission(given)? };
        Ok(Response::new(AuthRoleGrantPermissionResponse { header: self.change(caller, change).await? }))
    }

    async fn role_revoke_permission(
        &self,
        r: Request<AuthRoleRevokePermissionRequest>,
    ) -> Result<Response<AuthRoleRevokePermissionResponse>, Status> {
        let (caller, r) = self.caller(r).await?;
        let change = AuthChange::RoleRevokePermission { role: r.role, key: r.key, range_end: r.range_end };
        Ok(Response::new(AuthRoleRevokePermissionResponse { header: self.change(caller, change).await? }))
    }
}
