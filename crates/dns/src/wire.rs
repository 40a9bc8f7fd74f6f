//! Messages in and out: what is accepted, and how an answer is made to fit. Pure.

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, RecordType},
};

/// Without EDNS(0) a datagram carries this much (RFC 1035).
const PLAIN_PAYLOAD: usize = 512;
/// What we say we take, and what we send at most: larger datagrams get fragmented (DNS flag day 2020).
pub const MAX_PAYLOAD: u16 = 1232;

/// What a packet asks for.
#[derive(Debug)]
pub enum Request {
    /// One question of the Internet class.
    Question(Message, Query),
    /// Something that gets an error code.
    Refused(Message, ResponseCode),
    /// Something that gets no answer: noise, or an answer itself.
    Ignored,
}

/// Reads a packet.
pub fn parse(packet: &[u8]) -> Request {
    let message = match Message::from_vec(packet) {
        Ok(message) => message,
        // A packet with a whole header of a query deserves to be told; below that it is noise.
        Err(_) => match packet {
            [a, b, flags, _, _, _, _, _, _, _, _, _, ..] if flags & 0x80 == 0 => {
                let id = u16::from_be_bytes([*a, *b]);
                return Request::Refused(Message::new(id, MessageType::Query, OpCode::Query), ResponseCode::FormErr);
            }
            _ => return Request::Ignored,
        },
    };
    if message.metadata.message_type != MessageType::Query {
        return Request::Ignored;
    }
    if message.metadata.op_code != OpCode::Query {
        return Request::Refused(message, ResponseCode::NotImp);
    }
    if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        return Request::Refused(message, ResponseCode::BADVERS);
    }
    let [query] = message.queries.as_slice() else {
        return Request::Refused(message, ResponseCode::FormErr);
    };
    let transfer = matches!(query.query_type, RecordType::AXFR | RecordType::IXFR);
    if transfer || !matches!(query.query_class, DNSClass::IN | DNSClass::ANY) {
        return Request::Refused(message, ResponseCode::Refused);
    }
    let query = query.clone();
    Request::Question(message, query)
}

/// An answer to `request` without records yet.
pub fn response_to(request: &Message, code: ResponseCode) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.checking_disabled = request.metadata.checking_disabled;
    response.metadata.recursion_available = true;
    response.metadata.response_code = code;
    response.queries = request.queries.clone();
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        response.edns = Some(edns);
    }
    response
}

/// How long an answer to `request` may be in a datagram.
pub fn datagram_limit(request: &Message) -> usize {
    match &request.edns {
        Some(edns) => usize::from(edns.max_payload().clamp(PLAIN_PAYLOAD as u16, MAX_PAYLOAD)),
        None => PLAIN_PAYLOAD,
    }
}

/// Encodes `response` within `limit` bytes. What is only helpful goes first; when answers must go, the message says
/// that it is truncated.
pub fn encode(mut response: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = response.to_vec().ok();
        if let Some(bytes) = bytes.filter(|bytes| bytes.len() <= limit) {
            return Some(bytes);
        }
        if !response.additionals.is_empty() {
            response.additionals.clear();
        } else if !response.answers.is_empty() {
            response.metadata.truncation = true;
            response.answers.truncate(response.answers.len() / 2);
        } else if !response.authorities.is_empty() {
            response.authorities.clear();
        } else {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hickory_proto::rr::{Name, RData, Record, rdata::A};
    use proptest::prelude::*;

    use super::*;

    fn question(payload: Option<u16>) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(Name::from_ascii("a.example.").unwrap(), RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message
    }

    #[test]
    fn long_answers_are_truncated_for_datagrams_only() {
        let name = Name::from_ascii("a.example.").unwrap();
        for (payload, limit) in [(None, 512), (Some(100), 512), (Some(900), 900), (Some(9000), 1232)] {
            let request = question(payload);
            assert_eq!(datagram_limit(&request), limit);
            let mut response = response_to(&request, ResponseCode::NoError);
            let data = RData::A(A(Ipv4Addr::new(10, 0, 0, 1)));
            response.answers = vec![Record::from_rdata(name.clone(), 5, data); 200];
            let short = Message::from_vec(&encode(response.clone(), limit).unwrap()).unwrap();
            assert!(short.metadata.truncation && !short.answers.is_empty() && short.answers.len() < 200);
            assert_eq!(short.edns.is_some(), payload.is_some());
            let long = Message::from_vec(&encode(response, 65_535).unwrap()).unwrap();
            assert!(!long.metadata.truncation && long.answers.len() == 200);
        }
    }

    #[test]
    fn what_is_not_a_question_is_refused_or_ignored() {
        let refused = |packet: &[u8]| match parse(packet) {
            Request::Refused(message, code) => format!("{} {code:?}", message.metadata.id),
            Request::Question(..) => "question".to_owned(),
            Request::Ignored => "ignored".to_owned(),
        };
        assert_eq!(refused(&question(None).to_vec().unwrap()), "question");
        assert_eq!(refused(b""), "ignored");
        assert_eq!(refused(&[0; 11]), "ignored");
        assert_eq!(refused(&[0, 9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]), "9 FormErr");
        let change = |edit: fn(&mut Message)| {
            let mut message = question(Some(1232));
            edit(&mut message);
            refused(&message.to_vec().unwrap())
        };
        assert_eq!(change(|m| m.metadata.message_type = MessageType::Response), "ignored");
        assert_eq!(change(|m| m.metadata.op_code = OpCode::Update), "7 NotImp");
        assert_eq!(change(|m| m.queries.clear()), "7 FormErr");
        assert_eq!(
            change(|m| {
                let _ = m.queries[0].set_query_type(RecordType::AXFR);
            }),
            "7 Refused"
        );
        assert_eq!(
            change(|m| {
                let _ = m.queries[0].set_query_class(DNSClass::CH);
            }),
            "7 Refused"
        );
        assert_eq!(
            change(|m| {
                let _ = m.edns.as_mut().unwrap().set_version(1);
            }),
            "7 BADVERS"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..600), flip in any::<prop::sample::Index>()) {
            parse(&bytes);
            let mut good = question(Some(4096)).to_vec().unwrap();
            let at = flip.index(good.len());
            good[at] ^= bytes.first().copied().unwrap_or(255);
            if let Request::Question(message, _) | Request::Refused(message, _) = parse(&good) {
                encode(response_to(&message, ResponseCode::ServFail), 512);
            }
        }
    }
}
