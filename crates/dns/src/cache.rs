//! Answers of other servers, kept for as long as they allow but not longer than half a minute. Pure: time is given.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType},
};

/// Answers kept at most; the one that was not used for longest goes first.
const CAPACITY: usize = 4096;
/// Kept at most this long (CoreDNS's `cache 30`).
const MAX_AGE: Duration = Duration::from_secs(30);

/// A question, with its name in lower case and whether DNSSEC records were asked for.
pub type Question = (Name, RecordType, bool);

#[derive(Default)]
pub struct Cache {
    entries: HashMap<Question, Entry>,
    /// The entries by their last use.
    uses: BTreeMap<u64, Question>,
    last_use: u64,
}

struct Entry {
    answer: Message,
    stored: Duration,
    expires: Duration,
    used: u64,
}

impl Cache {
    /// The answer with its times to live as they are now.
    pub fn get(&mut self, question: &Question, now: Duration) -> Option<Message> {
        let entry = self.entries.get_mut(question)?;
        if entry.expires <= now {
            let used = entry.used;
            self.uses.remove(&used);
            self.entries.remove(question);
            return None;
        }
        self.last_use += 1;
        self.uses.remove(&entry.used);
        self.uses.insert(self.last_use, question.clone());
        entry.used = self.last_use;
        let mut answer = entry.answer.clone();
        let age = (now - entry.stored).as_secs() as u32;
        for record in sections(&mut answer) {
            record.ttl = record.ttl.saturating_sub(age);
        }
        Some(answer)
    }

    /// Keeps an answer if it allows that.
    pub fn put(&mut self, question: Question, answer: &Message, now: Duration) {
        let Some(age) = lifetime(answer).filter(|age| !age.is_zero()) else { return };
        if let Some(old) = self.entries.remove(&question) {
            self.uses.remove(&old.used);
        }
        while self.entries.len() >= CAPACITY {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            self.entries.remove(&oldest);
        }
        self.last_use += 1;
        self.uses.insert(self.last_use, question.clone());
        let entry = Entry { answer: answer.clone(), stored: now, expires: now + age, used: self.last_use };
        self.entries.insert(question, entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

fn sections(message: &mut Message) -> impl Iterator<Item = &mut Record> {
    message.answers.iter_mut().chain(&mut message.authorities).chain(&mut message.additionals)
}

/// The shortest time to live of an answer; for one that says no, what its SOA allows (RFC 2308).
fn lifetime(answer: &Message) -> Option<Duration> {
    if answer.metadata.truncation {
        return None;
    }
    let seconds = match answer.metadata.response_code {
        ResponseCode::NoError if !answer.answers.is_empty() => answer.answers.iter().map(|record| record.ttl).min(),
        ResponseCode::NoError | ResponseCode::NXDomain => {
            answer.authorities.iter().find_map(|record| match &record.data {
                RData::SOA(soa) => Some(soa.minimum.min(record.ttl)),
                _ => None,
            })
        }
        _ => None,
    };
    seconds.map(|seconds| Duration::from_secs(seconds.into()).min(MAX_AGE))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::{op::OpCode, rr::rdata::A};

    use super::*;

    fn question(n: usize) -> Question {
        (Name::from_ascii(format!("n{n}.example.")).unwrap(), RecordType::A, false)
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.add_answer(Record::from_rdata(question(0).0, ttl, RData::A(A(Ipv4Addr::LOCALHOST))));
        message
    }

    #[test]
    fn answers_age_and_expire() {
        let mut cache = Cache::default();
        let at = Duration::from_secs;
        cache.put(question(0), &answer(20), at(100));
        cache.put(question(1), &answer(0), at(100));
        cache.put(question(2), &answer(3600), at(100));
        let ttl = |cache: &mut Cache, n, now| cache.get(&question(n), at(now)).map(|m| m.answers[0].ttl);
        assert_eq!(ttl(&mut cache, 0, 107), Some(13));
        assert_eq!(ttl(&mut cache, 0, 120), None);
        assert_eq!(ttl(&mut cache, 1, 100), None);
        assert_eq!(ttl(&mut cache, 2, 129), Some(3571));
        assert_eq!(ttl(&mut cache, 2, 130), None);
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = Cache::default();
        for n in 0..CAPACITY {
            cache.put(question(n), &answer(20), Duration::ZERO);
        }
        assert!(cache.get(&question(0), Duration::ZERO).is_some());
        cache.put(question(CAPACITY), &answer(20), Duration::ZERO);
        assert_eq!(cache.len(), CAPACITY);
        assert!(cache.get(&question(0), Duration::ZERO).is_some());
        assert!(cache.get(&question(1), Duration::ZERO).is_none());
    }
}
