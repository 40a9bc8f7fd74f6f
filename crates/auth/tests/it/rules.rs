//! etcd's rules for changing users and roles, and when a change moves the revision.

use auth::{Auth, Command, FIRST_REVISION, Response, TokenEvent};
use store_api::{AuthAnswer, AuthError, AuthQuery, Caller};

use crate::{GUARDED, Result, after, caller, change, run};

/// What the last of some changes answers, and by how much it moves the revision.
fn check(lines: &[&str], expected: Result, moved: u64) {
    let (last, before) = lines.split_last().unwrap();
    let mut auth = after(before);
    let revision = auth.revision();
    let response = run(&mut auth, last).response.map(|_| ());
    assert_eq!((response, auth.revision() - revision), (expected, moved), "{lines:?}");
}

#[test]
fn users() {
    check(&["user a h"], Ok(()), 1);
    check(&["user"], Err(AuthError::UserEmpty), 0);
    check(&["user a h", "user a h"], Err(AuthError::UserAlreadyExist), 0);
    check(&["user a h", "user- a"], Ok(()), 1);
    check(&["user- a"], Err(AuthError::UserNotFound), 0);
    check(&["user a h", "password a i"], Ok(()), 1);
    check(&["password a i"], Err(AuthError::UserNotFound), 0);
    check(&["grant a R"], Err(AuthError::UserNotFound), 0);
    check(&["user a h", "grant a R"], Err(AuthError::RoleNotFound), 0);
    check(&["user a h", "grant a root"], Ok(()), 1);
    check(&["user a h", "role R", "grant a R"], Ok(()), 1);
    check(&["user a h", "role R", "grant a R", "grant a R"], Ok(()), 0);
    check(&["user a h", "revoke a R"], Err(AuthError::RoleNotGranted), 0);
    check(&["revoke a R"], Err(AuthError::UserNotFound), 0);
    check(&["user a h", "role R", "grant a R", "revoke a R"], Ok(()), 1);
}

#[test]
fn roles() {
    check(&["role R"], Ok(()), 1);
    check(&["role"], Err(AuthError::RoleEmpty), 0);
    check(&["role R", "role R"], Err(AuthError::RoleAlreadyExist), 0);
    check(&["role- R"], Err(AuthError::RoleNotFound), 0);
    check(&["role R", "role- R"], Ok(()), 1);
    check(&["role R", "user a h", "grant a R", "role- R", "revoke a R"], Err(AuthError::RoleNotGranted), 0);
    check(&["allow R r a"], Err(AuthError::RoleNotFound), 0);
    check(&["role R", "allow R r a"], Ok(()), 1);
    check(&["role R", "allow R r a", "allow R r a"], Ok(()), 1);
    check(&["role R", "allow R r a b"], Ok(()), 1);
    check(&["role R", "allow R r b a"], Err(AuthError::InvalidManagement), 0);
    check(&["role R", "allow R r a a"], Err(AuthError::InvalidManagement), 0);
    check(&["role R", "allow R r b \\0"], Ok(()), 1);
    check(&["role R", "allow R r"], Err(AuthError::InvalidManagement), 0);
    check(&["role R", "allow R r a b", "forbid R a"], Err(AuthError::PermissionNotGranted), 0);
    check(&["role R", "allow R r a b", "forbid R a b"], Ok(()), 1);
    check(&["forbid R a b"], Err(AuthError::RoleNotFound), 0);
}

#[test]
fn enabling_wants_a_root_that_cannot_be_taken_away_afterwards() {
    check(&["enable"], Err(AuthError::RootUserNotExist), 0);
    check(&["user root h", "enable"], Err(AuthError::RootRoleNotExist), 0);
    let enabled = ["user root h", "role root", "grant root root", "enable"];
    let then = |last: &'static str| [&enabled[..], &[last]].concat();
    check(&enabled, Ok(()), 0);
    check(&then("enable"), Ok(()), 0);
    check(&then("user- root"), Err(AuthError::InvalidManagement), 0);
    check(&then("revoke root root"), Err(AuthError::InvalidManagement), 0);
    check(&then("role- root"), Err(AuthError::InvalidManagement), 0);
    check(&then("password root i"), Ok(()), 1);
    check(&then("disable"), Ok(()), 1);
    check(&[&then("disable")[..], &["disable"]].concat(), Ok(()), 0);
    check(&[&then("disable")[..], &["user- root"]].concat(), Ok(()), 1);
}

#[test]
fn only_root_makes_changes_while_it_counts() {
    let check = |caller: Option<Caller>, expected: Result| {
        let mut auth = after(&GUARDED);
        let answer = auth.apply(Command::new(caller, change("role R")), 1).response.map(|_| ());
        assert_eq!(answer, expected);
    };
    let of = |name: &str| Some(Caller::new(name, 1));
    check(None, Err(AuthError::UserEmpty));
    check(of(""), Err(AuthError::UserEmpty));
    check(of("nobody"), Err(AuthError::UserNotFound));
    check(of("alice"), Err(AuthError::PermissionDenied));
    // As in etcd, an old revision does not keep root from making changes.
    check(of("root"), Ok(()));
}

#[test]
fn questions_are_answered_to_root_and_about_oneself() {
    let auth = after(&GUARDED);
    let check = |name: &str, query: AuthQuery, expected: Result<AuthAnswer>| {
        assert_eq!(auth.query(Some(&caller(&auth, name)), &query), expected, "{name}: {query:?}");
    };
    let names = |list: &[&str]| Ok(AuthAnswer::Names(list.iter().map(|name| (*name).to_owned()).collect()));
    check("root", AuthQuery::UserList, names(&["alice", "bob", "root"]));
    check("root", AuthQuery::RoleList, names(&["some"]));
    check("root", AuthQuery::UserGet("alice".into()), names(&["some"]));
    check("root", AuthQuery::UserGet("nobody".into()), Err(AuthError::UserNotFound));
    check("root", AuthQuery::RoleGet("root".into()), Err(AuthError::RoleNotFound));
    check("root", AuthQuery::Status, Ok(AuthAnswer::Status { enabled: true, revision: 10 }));
    check("alice", AuthQuery::Status, Err(AuthError::PermissionDenied));
    check("alice", AuthQuery::UserList, Err(AuthError::PermissionDenied));
    check("alice", AuthQuery::UserGet("alice".into()), names(&["some"]));
    check("alice", AuthQuery::UserGet("bob".into()), Err(AuthError::PermissionDenied));
    check("bob", AuthQuery::RoleGet("some".into()), Err(AuthError::PermissionDenied));
    let answer = auth.query(Some(&caller(&auth, "alice")), &AuthQuery::RoleGet("some".into()));
    assert!(matches!(answer, Ok(AuthAnswer::Permissions(list)) if list.len() == 3));
    assert_eq!(auth.query(None, &AuthQuery::Status), Err(AuthError::UserEmpty));
}

#[test]
fn a_token_is_given_to_users_with_a_password_and_ends_with_it() {
    let mut auth = after(&GUARDED);
    let applied = auth.apply(Command::authenticate("alice", "abc".into()), 17);
    assert_eq!(applied.response, Ok(Response::Token("abc.17".into())));
    assert_eq!(applied.tokens, TokenEvent::Assigned { token: "abc.17".into(), user: "alice".into() });
    let mut check = |command: Command, response: Result<Response>, tokens: TokenEvent| {
        let applied = auth.apply(command, 18);
        assert_eq!((applied.response, applied.tokens), (response, tokens));
    };
    let as_root = |line: &str| Command::new(Some(Caller::new("root", 99)), change(line));
    let forgotten = |name: &str| TokenEvent::Forgotten(name.into());
    for name in ["bob", "nobody"] {
        check(Command::authenticate(name, "abc".into()), Err(AuthError::Failed), TokenEvent::Nothing);
    }
    check(as_root("password alice i"), Ok(Response::Changed), forgotten("alice"));
    check(as_root("user- alice"), Ok(Response::Changed), forgotten("alice"));
    check(as_root("disable"), Ok(Response::Changed), TokenEvent::AllForgotten);
    check(Command::authenticate("root", "abc".into()), Err(AuthError::NotEnabled), TokenEvent::Nothing);
}

#[test]
fn a_password_is_compared_where_there_is_one() {
    let auth = after(&GUARDED);
    let check = |auth: &Auth, name: &str, expected: Result<&str>| {
        let hash = auth.password_hash(name).map(|password| password.hash);
        assert_eq!(hash.as_deref(), expected.as_ref().map(|hash| hash.as_bytes()), "{name}");
    };
    check(&auth, "alice", Ok("hash"));
    check(&auth, "bob", Err(AuthError::NoPasswordUser));
    check(&auth, "nobody", Err(AuthError::Failed));
    check(&Auth::default(), "root", Err(AuthError::NotEnabled));
    assert_eq!(Auth::default().revision(), FIRST_REVISION);
}
