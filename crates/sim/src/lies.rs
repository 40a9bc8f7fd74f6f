//! Bytes that a lying disk writes in place of those it was given, or reads in place of those it has. Knows the frames of
//! the log as far as it needs.

use crate::mutation::Mutation;

const FRAME: &[u8] = b"PLWF";
const HEAD: usize = 32;
const TAIL: [u8; 8] = [0x96, 0xe1, 0x5a, 0xc3, 0x3c, 0xa5, 0x1e, 0x69];
const PAD: u8 = 0xa5;
/// Bytes of a segment before its first frame.
const SEGMENT_HEAD: usize = 64;
/// The record of a hard state: its kind, then group, term and vote.
const HARD: u8 = 2;
const VOTE: std::ops::Range<usize> = 13..21;
/// The record of a snapshot that came from a peer: its kind, then group, index and term.
const BASE: u8 = 3;
const BASE_POINT: std::ops::Range<usize> = 5..21;

/// Rewrites what goes to the disk, where `lie` asks for it.
pub fn rewrite(lie: Mutation, salt: u64, bytes: &mut [u8]) {
    if !bytes.starts_with(FRAME) || bytes.len() <= HEAD {
        return;
    }
    match lie {
        Mutation::VotesAreForgotten => forget(salt, bytes, HARD, VOTE),
        Mutation::BasesAreForgotten => forget(salt, bytes, BASE, BASE_POINT),
        _ => {}
    }
}

/// Rewrites a segment that is read whole, where `lie` asks for it.
pub fn reread(lie: Mutation, salt: u64, segment: &mut [u8]) {
    let tails = lie == Mutation::TornFramesCount;
    if !tails && lie != Mutation::ChecksumsAreNotChecked {
        return;
    }
    let mut at = SEGMENT_HEAD;
    while let Some(frame) = segment.get_mut(at..).filter(|rest| rest.starts_with(FRAME) && rest.len() > HEAD) {
        let length = number(frame, 4) as usize;
        let size = (HEAD + length + TAIL.len()).next_multiple_of(8);
        let Some(frame) = frame.get_mut(..size) else { return };
        if tails {
            frame[HEAD + length..size - TAIL.len()].fill(PAD);
            frame[size - TAIL.len()..].copy_from_slice(&TAIL);
        }
        seal(salt, frame, length);
        at += size;
    }
}

/// Empties a part of all records of a kind.
fn forget(salt: u64, frame: &mut [u8], kind: u8, part: std::ops::Range<usize>) {
    let length = number(frame, 4) as usize;
    let mut at = HEAD;
    while at + 4 <= HEAD + length {
        let record = number(frame, at) as usize;
        if record >= part.end && frame[at + 4] == kind {
            frame[at + 4..][part.clone()].fill(0);
        }
        at += 4 + record;
    }
    seal(salt, frame, length);
}

/// Makes a frame's sums right.
fn seal(salt: u64, frame: &mut [u8], length: usize) {
    let body = sum(salt, &frame[HEAD..HEAD + length]);
    frame[20..24].copy_from_slice(&body.to_le_bytes());
    let head = sum(salt, &frame[..24]);
    frame[24..28].copy_from_slice(&head.to_le_bytes());
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn sum(salt: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&salt.to_le_bytes()), bytes)
}
