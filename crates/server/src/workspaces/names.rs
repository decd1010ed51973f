//! Names for workspaces whose owner gave none: two plain words, easy to say and to tell apart.

const FIRST: [&str; 24] = [
    "amber", "brisk", "calm", "clear", "copper", "dusty", "early", "fair", "fleet", "golden", "keen", "lucid",
    "mellow", "nimble", "noble", "polar", "quick", "quiet", "rapid", "silver", "solar", "steady", "vivid", "wild",
];
const SECOND: [&str; 24] = [
    "badger", "comet", "condor", "coral", "delta", "ember", "falcon", "fjord", "harbor", "heron", "island", "juniper",
    "lagoon", "lynx", "maple", "meadow", "orbit", "otter", "pine", "raven", "reef", "river", "summit", "tundra",
];

pub fn make_up() -> String {
    let pick = |words: &[&'static str; 24]| words[rand::random_range(0..words.len())];
    format!("{}-{}", pick(&FIRST), pick(&SECOND))
}
