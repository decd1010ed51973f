//! The block of ours in an `authorized_keys` file, and the rest of it, which is not ours.
//!
//! Invariant: no line outside of our marks is changed, moved or lost, and writing the same keys twice
//! gives the same file.

/// The marks of our block. Of two begins without an end between them, only the last begins one.
const BEGIN: &str = "# BEGIN Rexec: keys of your account; what you write between these lines is replaced";
const END: &str = "# END Rexec";
/// How our first mark begins, whatever an earlier version went on to say in it.
const BEGIN_START: &str = "# BEGIN Rexec:";

/// The file with these lines as our block, in the place of the block that was there.
pub fn merged(before: &[u8], keys: &[String]) -> Vec<u8> {
    let lines: Vec<&[u8]> = before.split_inclusive(|byte| *byte == b'\n').collect();
    let mut kept: Vec<u8> = Vec::with_capacity(before.len());
    let mut at = None;
    let mut next = 0;
    while next < lines.len() {
        match block(&lines[next..]) {
            Some(length) => {
                at.get_or_insert(kept.len());
                next += length;
            }
            // A mark without its other half marks nothing.
            None if is_begin(lines[next]) || is_end(lines[next]) => next += 1,
            None => {
                kept.extend_from_slice(lines[next]);
                next += 1;
            }
        }
    }
    if keys.is_empty() {
        return kept;
    }
    let mut ours = String::new();
    for line in std::iter::once(BEGIN).chain(keys.iter().map(String::as_str)).chain([END]) {
        ours.push_str(line);
        ours.push('\n');
    }
    let at = at.unwrap_or(kept.len());
    if at > 0 && kept[at - 1] != b'\n' {
        ours.insert(0, '\n');
    }
    kept.splice(at..at, ours.into_bytes());
    kept
}

/// How many lines our block has that begins here, if one does.
fn block(lines: &[&[u8]]) -> Option<usize> {
    if !is_begin(lines.first()?) {
        return None;
    }
    let end = lines[1..].iter().position(|line| is_end(line) || is_begin(line))? + 1;
    is_end(lines[end]).then_some(end + 1)
}

fn is_begin(line: &[u8]) -> bool {
    line.starts_with(BEGIN_START.as_bytes())
}

fn is_end(line: &[u8]) -> bool {
    line.trim_ascii_end() == END.as_bytes()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(before: &str, keys: &[&str]) -> String {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        String::from_utf8(merged(before.as_bytes(), &keys)).unwrap()
    }

    #[test]
    fn our_block_takes_its_own_place() {
        let ours = |keys: &str| format!("{BEGIN}\n{keys}{END}\n");
        assert_eq!(text("", &["a", "b"]), ours("a\nb\n"));
        assert_eq!(text("mine", &["a"]), format!("mine\n{}", ours("a\n")));
        let file = format!("mine\n{}after\n", ours("old\n"));
        assert_eq!(text(&file, &["new"]), format!("mine\n{}after\n", ours("new\n")));
        assert_eq!(text(&file, &[]), "mine\nafter\n");
        // Of a mark whose other half somebody has deleted, what follows is theirs.
        assert_eq!(text(&format!("{BEGIN}\nkept\n"), &["a"]), format!("kept\n{}", ours("a\n")));
        let doubled = format!("{BEGIN}\nkept\n{}", ours("old\n"));
        assert_eq!(text(&doubled, &["a"]), format!("kept\n{}", ours("a\n")));
        assert_eq!(text(&format!("x\n{END}\ny\n"), &[]), "x\ny\n");
    }

    fn line() -> impl Strategy<Value = String> {
        prop_oneof![Just(BEGIN.to_owned()), Just(END.to_owned()), "[a-z #]{0,8}"]
    }

    proptest! {
        #[test]
        fn twice_is_once_and_a_strangers_lines_stay(lines in prop::collection::vec(line(), 0..12), keys in prop::collection::vec("[k-z]{1,5}", 0..4)) {
            let before = lines.join("\n");
            let once = merged(before.as_bytes(), &keys);
            prop_assert_eq!(&merged(&once, &keys), &once);
            // Without marks nothing of it is ours.
            if !lines.iter().any(|line| line == BEGIN || line == END) {
                prop_assert!(once.starts_with(before.as_bytes()));
            }
        }
    }
}
