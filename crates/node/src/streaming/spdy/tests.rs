//! Frames as a client writes them, and the property that no bytes break the reader.

use proptest::prelude::*;

use super::*;

/// The client's side.
#[derive(Default)]
pub struct Client {
    writer: Writer,
}

impl Client {
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)], fin: bool) -> Bytes {
        let mut block = BytesMut::new();
        block.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(text.len() as u32);
            block.put_slice(text.as_bytes());
        }
        let mut body = BytesMut::new();
        body.put_u32(stream);
        body.put_u32(0);
        body.put_u16(0);
        body.put_slice(&self.writer.pack(&block));
        control(1, u8::from(fin), &body)
    }
}

#[test]
fn the_dictionary_is_the_one_of_the_specification() {
    assert_eq!(DICTIONARY.len(), 1423);
    // The Adler-32 that a zlib stream names it by.
    let (mut a, mut b) = (1u32, 0u32);
    for byte in DICTIONARY.iter() {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    assert_eq!(b << 16 | a, 0xe3c6_a7c2);
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let mut client = Client::default();
    let headers = [("streamtype", "error"), ("port", "8080"), ("requestid", "0")];
    let owned = |type_: &str| {
        let pairs = [("streamtype", type_), ("port", "8080"), ("requestid", "0")];
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    };
    let sent = [
        client.open(1, &headers, true),
        client.open(3, &[("StreamType", "data"), ("port", "8080"), ("requestid", "0")], false),
        data(3, b"GET /", false),
        data(3, b"", true),
        ping(7),
        reset(3, 5),
        control(4, 0, &[0; 4]),
        control(7, 0, &[0; 8]),
    ]
    .concat();
    let expected = [
        Frame::Open { stream: 1, headers: owned("error"), fin: true },
        Frame::Open { stream: 3, headers: owned("data"), fin: false },
        Frame::Data { stream: 3, data: Bytes::from_static(b"GET /"), fin: false },
        Frame::Data { stream: 3, data: Bytes::new(), fin: true },
        Frame::Ping { id: 7 },
        Frame::Reset { stream: 3, status: 5 },
        Frame::Other,
        Frame::GoAway,
    ];
    for size in [1, 7, sent.len()] {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for piece in sent.chunks(size) {
            reader.push(piece);
            while let Some(frame) = reader.next().unwrap() {
                found.push(frame);
            }
        }
        assert_eq!(found, expected, "cut into {size}");
    }
}

#[test]
fn replies_are_readable() {
    let (mut writer, mut reader) = (Writer::default(), Reader::default());
    for stream in [1, 3, 5] {
        reader.push(&writer.reply(stream));
        assert_eq!(reader.next(), Ok(Some(Frame::Other)));
    }
}

#[test]
fn what_cannot_be_read_ends_the_connection() {
    let check = |bytes: &[u8], expected: Error| {
        let mut reader = Reader::default();
        reader.push(bytes);
        assert_eq!(reader.next(), Err(expected));
    };
    check(&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], Error::TooLong(0xff_ffff));
    check(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], Error::Version(2));
    check(&control(3, 0, &[0; 5]), Error::Malformed);
    check(&control(1, 0, &[0; 20]), Error::Headers);
}

proptest! {
    #[test]
    fn any_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let drain = |bytes: &[u8]| {
            let mut reader = Reader::default();
            reader.push(bytes);
            while let Ok(Some(_)) = reader.next() {}
        };
        drain(&bytes);
        drain(&control(1, 0, &bytes));
        let mut good = Client::default().open(1, &[("streamtype", "data"), ("port", "80")], false).to_vec();
        let at = at.index(good.len());
        good[at] = value;
        drain(&good);
    }
}
