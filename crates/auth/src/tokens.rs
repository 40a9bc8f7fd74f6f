//! The tokens of etcd's kind `simple`: random letters that stand for a user until nobody has shown them for a while.
//!
//! Which token stands for whom is replicated; when it ends is each member's own affair, as in etcd. Time comes as an
//! argument, counted from any fixed point.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// How long a token lives after it was last shown, unless `--auth-token-ttl` says otherwise.
pub const TOKEN_TTL: Duration = Duration::from_secs(300);
/// Tokens at one time. One more makes the member forget the oldest, whose holder has to authenticate again.
pub const MAX_TOKENS: usize = 1 << 16;

/// What a command did to the tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TokenEvent {
    #[default]
    Nothing,
    Assigned {
        token: Arc<str>,
        user: Arc<str>,
    },
    /// The user is gone or has another password: their tokens are worth nothing.
    Forgotten(Arc<str>),
    /// Authentication is off.
    AllForgotten,
}

/// One member's memory of tokens.
#[derive(Debug)]
pub struct Tokens {
    ttl: Duration,
    held: HashMap<Arc<str>, Held>,
    /// Each token once, about in the order in which they end: one that was renewed goes to the back when its turn comes.
    order: VecDeque<(Duration, Arc<str>)>,
}

#[derive(Debug)]
struct Held {
    user: Arc<str>,
    /// Milliseconds; moved by readers.
    until: AtomicU64,
}

impl Default for Tokens {
    fn default() -> Self {
        Tokens::new(TOKEN_TTL)
    }
}

impl Tokens {
    pub fn new(ttl: Duration) -> Self {
        Tokens { ttl, held: HashMap::new(), order: VecDeque::new() }
    }

    /// Who holds a token; renews it.
    pub fn holder(&self, token: &str, now: Duration) -> Option<Arc<str>> {
        let held = self.held.get(token)?;
        if millis(now) > held.until.load(Ordering::Relaxed) {
            return None;
        }
        held.until.fetch_max(millis(now + self.ttl), Ordering::Relaxed);
        Some(held.user.clone())
    }

    /// Learns what a command did.
    pub fn follow(&mut self, event: TokenEvent, now: Duration) {
        match event {
            TokenEvent::Nothing => {}
            TokenEvent::Assigned { token, user } => self.assign(token, user, now),
            TokenEvent::Forgotten(user) => {
                self.held.retain(|_, held| held.user != user);
                self.order.retain(|(_, token)| self.held.contains_key(token));
            }
            TokenEvent::AllForgotten => {
                self.held = HashMap::new();
                self.order = VecDeque::new();
            }
        }
    }

    /// Gives back the memory of tokens that have ended. They are worth nothing also before.
    pub fn sweep(&mut self, now: Duration) {
        while let Some((end, token)) = self.order.pop_front_if(|(end, _)| *end < now) {
            let Some(held) = self.held.get(&token) else { continue };
            let until = Duration::from_millis(held.until.load(Ordering::Relaxed));
            if until > end && until >= now {
                self.order.push_back((until, token));
            } else {
                self.held.remove(&token);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    fn assign(&mut self, token: Arc<str>, user: Arc<str>, now: Duration) {
        while self.held.len() >= MAX_TOKENS {
            let Some((_, oldest)) = self.order.pop_front() else { break };
            self.held.remove(&oldest);
        }
        let end = now + self.ttl;
        let held = Held { user, until: AtomicU64::new(millis(end)) };
        if self.held.insert(token.clone(), held).is_none() {
            self.order.push_back((end, token));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The place in the log of the command that gave a token out: a member that is not there yet does not know it yet.
/// `None` for what cannot be a token.
pub fn token_index(token: &str) -> Option<u64> {
    let (prefix, index) = token.split_once('.')?;
    let digits = !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    if prefix.is_empty() || !digits { None } else { index.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn assigned(token: &str, user: &str) -> TokenEvent {
        TokenEvent::Assigned { token: token.into(), user: user.into() }
    }

    fn check(tokens: &Tokens, token: &str, now: u32, expected: Option<&str>) {
        assert_eq!(tokens.holder(token, SECOND * now).as_deref(), expected, "{token} at {now}");
    }

    #[test]
    fn a_token_ends_when_nobody_shows_it() {
        let mut tokens = Tokens::default();
        tokens.follow(assigned("a.1", "alice"), SECOND);
        tokens.follow(assigned("b.2", "bob"), SECOND);
        check(&tokens, "a.1", 200, Some("alice"));
        tokens.sweep(SECOND * 302);
        assert_eq!(tokens.len(), 1);
        check(&tokens, "b.2", 302, None);
        check(&tokens, "a.1", 500, Some("alice"));
        check(&tokens, "a.1", 801, None);
        tokens.sweep(SECOND * 802);
        assert!(tokens.is_empty() && tokens.order.is_empty());
    }

    #[test]
    fn a_user_that_is_gone_holds_no_token() {
        let mut tokens = Tokens::default();
        tokens.follow(assigned("a.1", "alice"), SECOND);
        tokens.follow(assigned("b.2", "bob"), SECOND);
        tokens.follow(TokenEvent::Forgotten("alice".into()), SECOND);
        check(&tokens, "a.1", 2, None);
        check(&tokens, "b.2", 2, Some("bob"));
        tokens.follow(TokenEvent::AllForgotten, SECOND);
        check(&tokens, "b.2", 2, None);
    }

    #[test]
    fn the_oldest_gives_way_at_the_bound() {
        let mut tokens = Tokens::default();
        for n in 0..=MAX_TOKENS {
            tokens.follow(assigned(&format!("t.{n}"), "u"), SECOND);
        }
        assert_eq!(tokens.len(), MAX_TOKENS);
        check(&tokens, "t.0", 2, None);
        check(&tokens, "t.1", 2, Some("u"));
    }

    #[test]
    fn a_token_names_its_place_in_the_log() {
        let check = |token: &str, expected| assert_eq!(token_index(token), expected, "{token}");
        check("abc.7", Some(7));
        check("abc", None);
        check("abc.x", None);
        check("abc.+7", None);
        check(".7", None);
        check("a.b.7", None);
    }
}
