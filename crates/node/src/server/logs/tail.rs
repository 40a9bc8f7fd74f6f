//! Where the last lines of a file begin, found by reading it backwards.

use std::{fs::File, io, os::unix::fs::FileExt};

const BLOCK: u64 = 16 << 10;

/// The offset at which the last `lines` lines begin; an unfinished last line counts as one.
pub(super) fn start_of_last_lines(file: &File, lines: u64) -> io::Result<u64> {
    let end = file.metadata()?.len();
    if lines == 0 {
        return Ok(end);
    }
    let mut newlines_left = lines;
    let mut block = vec![0; BLOCK as usize];
    let mut at = end;
    while at > 0 {
        let start = at.saturating_sub(BLOCK);
        let part = &mut block[..(at - start) as usize];
        file.read_exact_at(part, start)?;
        for (offset, byte) in part.iter().enumerate().rev() {
            let position = start + offset as u64;
            // The newline that ends the file ends its last line and begins none.
            if *byte == b'\n' && position + 1 < end {
                newlines_left -= 1;
                if newlines_left == 0 {
                    return Ok(position + 1);
                }
            }
        }
        at = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn counts_lines_from_the_end() {
        let check = |text: &str, lines: u64, expected: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            let start = start_of_last_lines(&file, lines).unwrap();
            assert_eq!(&text[start as usize..], expected, "{lines} of {text:?}");
        };
        check("a\nb\nc\n", 2, "b\nc\n");
        check("a\nb\nc", 2, "b\nc");
        check("a\nb\n", 5, "a\nb\n");
        check("a\nb\n", 0, "");
        check("", 3, "");
        let long = "x".repeat(20_000);
        check(&format!("{long}\n{long}\n{long}\n"), 2, &format!("{long}\n{long}\n"));
    }
}
