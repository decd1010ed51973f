#![allow(clippy::unwrap_used)]

use super::super::{Command, Push};
use super::*;
use crate::rule::Rule;
use proptest::prelude::*;

const GIT: Verdict = Verdict::With(Token::Git);
const API: Verdict = Verdict::With(Token::Api);
const UPLOAD: &str = "service=git-upload-pack";
const RECEIVE: &str = "service=git-receive-pack";

fn grant(repositories: &[&str], branches: &[&str], write: bool, apart: bool) -> Grant {
    Grant {
        site: Site::Public,
        repositories: repositories.iter().map(|text| text.parse().unwrap()).collect(),
        branches: branches.iter().map(|text| text.parse().unwrap()).collect(),
        write,
        apart,
    }
}

fn asked(grant: &Grant, host: &str, method: &str, path: &str) -> Verdict {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    grant.judge(&host.parse().unwrap(), method, path, query)
}

/// With its letter: `g` and `a` with a token, `p` a push, `w` without, `r` refused.
fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::With(Token::Git) => 'g',
        Verdict::With(Token::Api) => 'a',
        Verdict::Push => 'p',
        Verdict::Without => 'w',
        Verdict::Refused(_) => 'r',
    }
}

/// Reading, writing, writing to some branches; each with the operator's token and with one apart.
fn six(repositories: &[&str]) -> [Grant; 6] {
    let one = |branches: &[&str], write, apart| grant(repositories, branches, write, apart);
    [
        one(&[], false, false),
        one(&[], false, true),
        one(&[], true, false),
        one(&[], true, true),
        one(&["agent/*"], true, false),
        one(&["agent/*"], true, true),
    ]
}

#[track_caller]
fn check(grants: &[Grant; 6], host: &str, method: &str, path: &str, expected: &str) {
    let letters: String = grants.iter().map(|one| letter(&asked(one, host, method, path))).collect();
    assert_eq!(letters, expected, "{method} {host}{path}");
}

#[test]
fn git_goes_with_a_token_to_granted_repositories_alone() {
    let grants = six(&["acme/app", "widgets/*"]);
    for (method, path, expected) in [
        ("GET", "/acme/app/info/refs?service=git-upload-pack", "gggggg"),
        ("GET", "/acme/app.git/info/refs?service=git-upload-pack", "gggggg"),
        ("GET", "/Acme/APP.git/info/refs?service=git-upload-pack", "gggggg"),
        ("GET", "/%61cme/app/info/refs?service=git-upload-pack", "gggggg"),
        ("GET", "/widgets/any.git/info/refs?service=git-upload-pack", "gggggg"),
        ("POST", "/acme/app/git-upload-pack", "gggggg"),
        ("GET", "/acme/app.git/info/refs?service=git-receive-pack", "rrgggg"),
        ("POST", "/acme/app.git/git-receive-pack", "rrpppp"),
        ("POST", "/widgets/any/git-receive-pack", "rrpppp"),
        ("POST", "/acme/app.git/info/lfs/objects/batch", "rggggg"),
        ("GET", "/acme/app.git/info/lfs/locks", "rggggg"),
        // Of others.
        ("GET", "/acme/app2/info/refs?service=git-upload-pack", "wwwwww"),
        ("GET", "/acme/app2/info/refs?service=git-receive-pack", "wwwwww"),
        ("POST", "/acme/app2/git-upload-pack", "wwwwww"),
        ("POST", "/acme2/app/git-receive-pack", "wwwwww"),
        ("POST", "/acme/app.wiki.git/git-receive-pack", "wwwwww"),
        ("POST", "/acme/app.git.git/git-receive-pack", "wwwwww"),
        ("POST", "/acme/app2/info/lfs/objects/batch", "wwwwww"),
        ("POST", "/widgets/a%20b/git-receive-pack", "wwwwww"),
        ("POST", "/x/acme/app/git-receive-pack", "wwwwww"),
        // Nothing that git asks for.
        ("GET", "/acme/app", "wwwwww"),
        ("GET", "/acme/app/info/refs", "wwwwww"),
        ("GET", "/acme/app/info/refs?service=git-upload-pack&service=git-receive-pack", "wwwwww"),
        ("GET", "/acme/app/info/refs?service=git-archive", "wwwwww"),
        ("POST", "/acme/app/info/refs?service=git-upload-pack", "wwwwww"),
        ("GET", "/acme/app/git-receive-pack", "wwwwww"),
        ("POST", "/acme/app/git-receive-pack/", "wwwwww"),
        ("POST", "/acme/app/Git-Receive-Pack", "wwwwww"),
        ("post", "/acme/app/git-receive-pack", "wwwwww"),
        ("POST", "/acme/app/git-receive-pack?a", "rrrrrr"),
        ("POST", "/acme/app/info/lfs", "wwwwww"),
        ("GET", "/acme/app/archive/main.zip", "wwwwww"),
        ("GET", "/", "wwwwww"),
        // Read in two ways.
        ("POST", "/acme/app/../app2/git-receive-pack", "rrrrrr"),
        ("POST", "/acme//app/git-receive-pack", "rrrrrr"),
        ("POST", "/acme%2Fapp/git-receive-pack", "rrrrrr"),
        ("POST", "//acme/app/git-receive-pack", "rrrrrr"),
        ("POST", "acme/app/git-receive-pack", "rrrrrr"),
    ] {
        check(&grants, "github.com", method, path, expected);
    }
}

#[test]
fn the_api_goes_with_a_token_for_granted_repositories() {
    let grants = six(&["acme/app"]);
    for (method, below, expected) in [
        ("GET", "", "aaaaaa"),
        ("HEAD", "/pulls", "aaaaaa"),
        ("GET", "/actions/runs/1/logs", "aaaaaa"),
        ("GET", "/branches/agent/x", "aaaaaa"),
        ("POST", "/pulls", "rraaaa"),
        ("PATCH", "/pulls/1", "rraaaa"),
        ("POST", "/pulls/1/reviews", "rraaaa"),
        ("POST", "/pulls/1/requested_reviewers", "rraaaa"),
        ("POST", "/pulls/comments/2/replies", "rraaaa"),
        ("POST", "/issues/1/comments", "rraaaa"),
        ("PATCH", "/milestones/1", "rraaaa"),
        ("POST", "/statuses/a2621009", "rraaaa"),
        ("POST", "/check-runs", "rraaaa"),
        ("POST", "/git/blobs", "rraaaa"),
        ("POST", "/git/tags", "rraaaa"),
        ("get", "/pulls", "rraaaa"),
        // What moves refs, or might.
        ("PUT", "/pulls/1/merge", "rraarr"),
        ("PUT", "/pulls/1/merge/", "rraarr"),
        ("PUT", "/pulls/1/update-branch", "rraarr"),
        ("PUT", "/pulls/1/Merge", "rrrarr"),
        ("PUT", "/pulls/1/merge.json", "rrrarr"),
        ("PUT", "/pulls/1/%6derge", "rraarr"),
        ("POST", "/merges", "rraarr"),
        ("POST", "/git/refs", "rraarr"),
        ("PATCH", "/git/refs/heads/main", "rraarr"),
        ("POST", "/git/Refs", "rraarr"),
        ("PUT", "/contents/a/b.rs", "rraarr"),
        ("PUT", "/Contents/a", "rrrarr"),
        ("POST", "/releases", "rraarr"),
        ("POST", "/merge-upstream", "rrrarr"),
        ("POST", "/deployments", "rrrarr"),
        ("POST", "/branches/main/rename", "rrrarr"),
        ("POST", "/code-scanning/alerts/1/autofix/commits", "rrrarr"),
        ("POST", "/code-scanning/alerts/1/autofix/Commits", "rrrarr"),
        // Settings, people, and what runs.
        ("DELETE", "", "rrrara"),
        ("PATCH", "/", "rrrara"),
        ("POST", "/hooks", "rrrara"),
        ("POST", "/keys", "rrrara"),
        ("PUT", "/collaborators/eve", "rrrara"),
        ("POST", "/forks", "rrrara"),
        ("POST", "/transfer", "rrrara"),
        ("POST", "/dispatches", "rrrara"),
        ("POST", "/actions/workflows/1/dispatches", "rrrara"),
        ("PUT", "/actions/secrets/X", "rrrara"),
        ("POST", "/pulls/1/codespaces", "rrrara"),
        ("POST", "/pulls/1/Codespaces", "rrrarr"),
        ("POST", "/hooks;contents", "rrrarr"),
        // What names issues of other repositories.
        ("POST", "/issues/1/sub_issues", "rrrara"),
        ("DELETE", "/issues/1/sub_issue", "rrrara"),
        ("POST", "/issues/1/dependencies/blocked_by", "rrrara"),
        ("POST", "/issues/1/sub_issues.json", "rrrara"),
    ] {
        let path = format!("/repos/acme/app{below}");
        check(&grants, "api.github.com", method, &path, expected);
        check(&grants, "api.github.com", method, &path.replacen("acme/app", "Acme/APP", 1), expected);
        check(&grants, "api.github.com", method, &path.replacen("app", "app2", 1), "wwwwww");
    }
    for (method, path, expected) in [
        ("GET", "/repos/acme/app.git", "wwwwww"),
        ("GET", "/repos/acme/app%3Bx", "wwwwww"),
        ("GET", "/repos/acme/app/branches/a%2Fb", "rrrrrr"),
        ("GET", "/repos/acme/../acme/app", "rrrrrr"),
    ] {
        check(&grants, "api.github.com", method, path, expected);
    }
}

#[test]
fn files_of_releases_are_written_like_releases() {
    let grants = six(&["acme/app"]);
    for (method, path, expected) in [
        ("POST", "/repos/acme/app/releases/1/assets?name=a", "rraarr"),
        ("POST", "/repos/acme/app2/releases/1/assets?name=a", "wwwwww"),
        ("GET", "/repos/acme/app/releases/1/assets", "wwwwww"),
        ("POST", "/repos/acme/app/hooks", "wwwwww"),
        ("GET", "/user", "wwwwww"),
    ] {
        check(&grants, "uploads.github.com", method, path, expected);
    }
}

#[test]
fn what_is_about_no_repository() {
    let (some, all) = (six(&["acme/app"]), six(&["*"]));
    for (method, path, for_some, for_all) in [
        ("GET", "/", "aaaaaa", "aaaaaa"),
        ("GET", "/user", "aaaaaa", "aaaaaa"),
        ("HEAD", "/rate_limit", "aaaaaa", "aaaaaa"),
        ("GET", "/meta", "aaaaaa", "aaaaaa"),
        ("GET", "/user/emails", "wawawa", "aaaaaa"),
        ("GET", "/search/code?q=x", "wawawa", "aaaaaa"),
        ("GET", "/repositories/1", "wawawa", "aaaaaa"),
        ("GET", "/repos/acme", "wawawa", "aaaaaa"),
        ("GET", "/REPOS/acme/other", "wawawa", "aaaaaa"),
        ("GET", "/graphql", "wawawa", "aaaaaa"),
        ("POST", "/user/repos", "wwwwww", "rwrwrw"),
        ("DELETE", "/repositories/1", "wwwwww", "rwrwrw"),
        ("POST", "/REPOS/acme/app/hooks", "wwwwww", "rwrwrw"),
        ("DELETE", "/installation/token", "wrwrwr", "rrrrrr"),
        ("POST", "/graphql", "rarara", "raaara"),
        ("post", "/graphql", "wwwwww", "rwrwrw"),
        ("POST", "/graphql/", "wwwwww", "rwrwrw"),
    ] {
        check(&some, "api.github.com", method, path, for_some);
        check(&all, "api.github.com", method, path, for_all);
    }
    let every = grant(&["other/x", "*"], &[], true, false);
    assert_eq!(asked(&every, "api.github.com", "DELETE", "/repos/a/b/git/refs/heads/main"), API);
}

#[test]
fn other_hosts_are_not_asked_about() {
    let all = grant(&["*"], &[], true, true);
    for host in ["gist.github.com", "github.com.evil.example", "raw.githubusercontent.com", "www.github.com"] {
        assert!(!all.is_for(&host.parse().unwrap()));
        for path in ["/acme/app/git-upload-pack", "/a/../b", "/graphql"] {
            assert_eq!(asked(&all, host, "POST", path), Verdict::Without);
        }
    }
    assert!(all.is_for(&"GitHub.com".parse().unwrap()));
}

#[test]
fn a_company_has_all_on_one_host() {
    let host = "git.acme.example";
    let mut all = six(&["*"]);
    all.iter_mut().for_each(|one| one.site = Site::Own(host.parse().unwrap()));
    for (method, path, expected) in [
        ("GET", "/acme/app/info/refs?service=git-upload-pack", "gggggg"),
        ("POST", "/acme/app.git/git-receive-pack", "rrpppp"),
        ("GET", "/api/v3", "aaaaaa"),
        ("GET", "/api/v3/", "aaaaaa"),
        ("GET", "/api/v3/user", "aaaaaa"),
        ("POST", "/api/v3/repos/acme/app/pulls", "rraaaa"),
        ("PUT", "/api/v3/repos/acme/app/contents/a", "rraarr"),
        ("POST", "/api/uploads/repos/acme/app/releases/1/assets", "rraarr"),
        ("POST", "/api/graphql", "raaara"),
        ("POST", "/api/v3/graphql", "rwrwrw"),
        ("POST", "/api/v3/git-upload-pack", "rwrwrw"),
        ("POST", "/api/v4/git-receive-pack", "wwwwww"),
        ("POST", "/API/v3/git-receive-pack", "wwwwww"),
        ("GET", "/api/v3x/info/refs?service=git-upload-pack", "wwwwww"),
        ("GET", "/repos/acme/app", "wwwwww"),
        ("POST", "/graphql", "wwwwww"),
    ] {
        check(&all, host, method, path, expected);
    }
    check(&all, "github.com", "POST", "/acme/app.git/git-receive-pack", "wwwwww");
    check(&all, "api.github.com", "GET", "/user", "wwwwww");
}

#[test]
fn reasons_are_fit_to_be_shown() {
    let reads = grant(&["acme/app"], &[], false, false);
    let some = grant(&["acme/app"], &["agent/*"], true, false);
    for (verdict, part) in [
        (asked(&reads, "github.com", "POST", "/acme/app/git-receive-pack"), "not push"),
        (asked(&reads, "github.com", "POST", "/acme/app/info/lfs/objects/batch"), "GIT_LFS_SKIP_SMUDGE=1"),
        (asked(&some, "api.github.com", "PUT", "/repos/acme/app/contents/a"), "push to a branch"),
        (asked(&some, "api.github.com", "POST", "/graphql"), "repos/OWNER/NAME/pulls"),
        (asked(&some, "api.github.com", "POST", "/repos/acme/app/hooks"), "hooks"),
        (asked(&some, "github.com", "GET", "/a/../b"), "two ways"),
    ] {
        let Verdict::Refused(why) = verdict else { panic!("{verdict:?}") };
        assert!(why.as_str().contains(part) && !why.as_str().contains("  "), "{why}");
    }
}

fn commands(names: &[&str]) -> Commands {
    let command = |name: &&str| Command { old: "0".repeat(40), new: "1".repeat(40), name: (*name).into() };
    Commands { all: names.iter().map(command).collect(), side_band: true, report: true }
}

#[test]
fn every_ref_of_a_push_is_judged() {
    let some = grant(&["acme/app"], &["agent/*", "main"], true, true);
    let why = |names: &[&str]| some.judge_push(&commands(names)).map_err(|why| why.to_string());
    assert_eq!(why(&["refs/heads/agent/a", "refs/heads/main"]), Ok(()));
    assert_eq!(why(&[]), Ok(()), "git asks whether it may push");
    for (names, said) in [
        (&["refs/heads/agent/a", "refs/heads/b"][..], "agent/*, main alone, not to b"),
        (&["refs/heads/agent"], "not to agent"),
        (&["refs/heads/Main"], "not to Main"),
        (&["refs/heads/agent/../main"], "not to"),
        (&["refs/tags/v1"], "branches (agent/*, main) alone, and v1 is a tag"),
        (&["refs/tags/agent/a"], "is a tag"),
        (&["refs/agent/a"], "refs/agent/a is none"),
        (&["refs/heads/refs/heads/main"], "not to refs/heads/main"),
        (&["agent/a"], "is none"),
    ] {
        let why = why(names).unwrap_err();
        assert!(why.contains(said), "{names:?}: {why}");
    }
    let any = ["refs/heads/b", "refs/tags/v1", "refs/x/y"];
    assert_eq!(grant(&["acme/app"], &[], true, true).judge_push(&commands(&any)), Ok(()));
    assert!(grant(&["acme/app"], &[], false, true).judge_push(&commands(&["refs/heads/b"])).is_err());
    let many = grant(&["a/b"], &["a", "b", "c", "d", "e"], true, true);
    let why = many.judge_push(&commands(&[&format!("refs/heads/{}", "n".repeat(240))])).unwrap_err();
    assert!(why.as_str().contains("a, b, c and 2 more alone") && why.as_str().len() < 250, "{why}");
}

fn rules(grant: &Grant) -> Vec<Rule> {
    grant.rules().iter().map(|rule| rule.parse().unwrap()).collect()
}

fn reached(rules: &[Rule], host: &str, method: &str, path: &str) -> bool {
    let (host, path) = (host.parse().unwrap(), asks::plain(path.split('?').next().unwrap()).unwrap());
    let fits = |rule: &&Rule| rule.asks.as_ref().is_none_or(|asks| asks.fit(method, &path));
    rules.iter().filter(|rule| rule.matches_name(&host, 443)).any(|rule| fits(&rule))
}

#[test]
fn rules_are_written_out() {
    let written = |grant: Grant| grant.rules().join(" ");
    let reads = written(grant(&["acme/app"], &[], false, false));
    let git = "github.com/acme/app.git/* github.com/acme/app/info/* github.com/acme/app/git-upload-pack";
    let about = "GET@api.github.com/ GET@api.github.com/meta GET@api.github.com/rate_limit GET@api.github.com/user";
    let api = "GET@api.github.com/repos/acme/app GET@api.github.com/repos/acme/app/*";
    assert_eq!(reads, format!("{git} {api} {about}"));
    let all = written(grant(&["*"], &[], true, false));
    let expected = "github.com api.github.com/repos/* POST@uploads.github.com/repos/* POST@api.github.com/graphql \
                    GET@api.github.com/*";
    assert_eq!(all, expected);
    assert!(written(grant(&["Acme/*"], &["a"], true, true)).contains("github.com/Acme/* github.com/acme/*"));
    let host = format!("{0}.{0}.{0}.{1}", "h".repeat(63), "i".repeat(61));
    let mut long = grant(&["acme/app"], &[], true, true);
    long.site = Site::Own(host.parse().unwrap());
    assert!(rules(&long).len() > 5);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// A token goes nowhere but where rules lead, and of one repository they lead to nothing else. Names in a third spelling
    /// are reached by none.
    #[test]
    fn rules_reach_what_goes_with_a_token(
        which in 0..6_usize,
        own: bool,
        at in 0..3_usize,
        method in "GET|HEAD|POST|PUT|DELETE",
        start in "(/api/v3|/api/uploads)?(/repos)?",
        repository in "/(acme|Acme)/(app|app2)(\\.git)?",
        below in "(/info/refs|/git-upload-pack|/git-receive-pack|/info/lfs/x|/pulls(/1/merge)?|/contents/a|/releases/1/assets|/hooks)?",
        other in proptest::option::weighted(0.2, "/(api/)?graphql|/user|/rate_limit|/search/code|/"),
        receive: bool,
    ) {
        let mut grant = six(&["Acme/app"])[which].clone();
        let mut host = ["github.com", "api.github.com", "uploads.github.com"][at];
        if own {
            host = "git.acme.example";
            grant.site = Site::Own(host.parse().unwrap());
        }
        let path = other.unwrap_or_else(|| format!("{start}{repository}{below}"));
        let query = if receive { RECEIVE } else { UPLOAD };
        let verdict = asked(&grant, host, &method, &format!("{path}?{query}"));
        let with = matches!(verdict, Verdict::With(_) | Verdict::Push);
        let is_read = reached(&rules(&grant), host, &method, &path);
        // With a token apart GitHub is read where it has nothing, too, and no rule leads there.
        let base = if own { "/api/v3/repos/" } else { "/repos/" };
        let is_nowhere = grant.apart
            && matches!(&*method, "GET" | "HEAD")
            && verdict == API
            && !path.starts_with(base)
            && (path.contains("cme/") || path.ends_with("graphql"));
        prop_assert!(!with || is_read || is_nowhere, "{} {}{}: {:?}", method, host, path, verdict);
        let is_git = path.contains(".git/") || path.contains("/info/") || path.contains("/git-");
        prop_assert!(!is_read || verdict != Verdict::Without || is_git || host == "uploads.github.com" || own, "{} {}{}", method, host, path);
    }

    /// No other repository ever gets a token.
    #[test]
    fn a_token_goes_to_what_is_granted(
        which in 0..6_usize,
        host in "github\\.com|api\\.github\\.com|uploads\\.github\\.com",
        method in "GET|POST|PUT|DELETE",
        path in "(/repos)?/(acme|Acme|a[c%.]{1,3}me)/(app|APP|a[p%.2/]{1,4})(\\.git|/)?(/[a-z%/.-]{0,9}|/info/refs|/git-upload-pack|/git-receive-pack)",
    ) {
        let grant = &six(&["acme/app"])[which];
        let verdict = grant.judge(&host.parse().unwrap(), &method, &path, Some(RECEIVE));
        if verdict == GIT || verdict == API || verdict == Verdict::Push {
            let path = asks::plain(&path).unwrap().to_lowercase();
            let place = path.strip_prefix("/repos").unwrap_or(&path);
            // The API is read with a token apart wherever GitHub lets it.
            let is_other = verdict == API && grant.apart && method == "GET";
            let is_ours = |base: &str| place.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            prop_assert!(is_other || is_ours("/acme/app") || is_ours("/acme/app.git"), "{} {}{}: {:?}", method, host, path, verdict);
        }
    }

    #[test]
    fn a_push_that_may_moves_nothing_else(names in prop::collection::vec("refs/(heads|tags)/(agent/)?[a-c./]{1,3}", 1..4)) {
        let grant = grant(&["acme/app"], &["agent/*"], true, true);
        let mut body = String::new();
        for name in &names {
            let text = format!("{0} {0} {name}", "1".repeat(40));
            body.push_str(&format!("{:04x}{text}", text.len() + 4));
        }
        if let Ok(Some(commands)) = Push::new().feed(format!("{body}0000").as_bytes())
            && grant.judge_push(&commands).is_ok()
        {
            prop_assert!(names.iter().all(|name| name.starts_with("refs/heads/agent/")));
        }
    }
}
