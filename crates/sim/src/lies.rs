//! Bytes that a lying disk writes in place of those it was given. Knows the frames of the log as far as it needs.

use crate::mutation::Mutation;

const FRAME: &[u8] = b"PLWF";
const HEAD: usize = 32;
/// The record of a hard state: its kind, then group, term and vote.
const HARD: u8 = 2;
const VOTE: std::ops::Range<usize> = 13..21;

/// Rewrites what goes to the disk, where `lie` asks for it.
pub fn rewrite(lie: Mutation, salt: u64, bytes: &mut [u8]) {
    if lie == Mutation::VotesAreForgotten && bytes.starts_with(FRAME) && bytes.len() > HEAD {
        forget_votes(salt, bytes);
    }
}

fn forget_votes(salt: u64, frame: &mut [u8]) {
    let length = number(frame, 4) as usize;
    let mut at = HEAD;
    while at + 4 <= HEAD + length {
        let record = number(frame, at) as usize;
        if record > VOTE.end && frame[at + 4] == HARD {
            frame[at + 4..][VOTE].fill(0);
        }
        at += 4 + record;
    }
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
