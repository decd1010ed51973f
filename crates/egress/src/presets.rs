//! What the presets allow: names, pure data.
//!
//! Invariant: balanced names no host whose content is anybody's own storage (`*.githubusercontent.com`, `*.amazonaws.com`,
//! gists, buckets): there, whoever has got into a workspace could leave what it holds and fetch it from elsewhere. Where one
//! host serves both, as code hosts and model vendors do with an account's key, it is named by itself and no wider than tools
//! need; so balanced stops strays and mistakes, and makes theft visible, but does not stop a thief with an account there.
use crate::policy::{Layer, Origin, Preset, Rules};
use std::sync::LazyLock;

/// Packages of distributions. Fedora's mirror list sends to hundreds of hosts; with only its own reached, `dnf` falls back
/// to them.
const DISTRIBUTIONS: &[&str] = &[
    "deb.debian.org",
    "security.debian.org",
    "ftp.debian.org",
    "snapshot.debian.org",
    "archive.ubuntu.com",
    // Mirrors by country, which images of clouds are set to.
    "*.archive.ubuntu.com",
    "security.ubuntu.com",
    "ports.ubuntu.com",
    "dl-cdn.alpinelinux.org",
    "mirrors.fedoraproject.org",
    "download.fedoraproject.org",
    "dl.fedoraproject.org",
    "codecs.fedoraproject.org",
    "mirrors.rockylinux.org",
    "dl.rockylinux.org",
    "mirrors.almalinux.org",
    "repo.almalinux.org",
    "mirror.stream.centos.org",
    "geo.mirror.pkgbuild.com",
    "download.opensuse.org",
    "cache.nixos.org",
    "channels.nixos.org",
];

/// Packages of languages, and what installs the languages themselves. `storage.googleapis.com` is left out, although the
/// Go proxy sends there for large modules: every bucket there is has that name.
const PACKAGES: &[&str] = &[
    // JavaScript.
    "registry.npmjs.org",
    "registry.yarnpkg.com",
    "repo.yarnpkg.com",
    "classic.yarnpkg.com",
    "nodejs.org",
    "npm.jsr.io",
    "jsr.io",
    "deno.land",
    "dl.deno.land",
    "bun.sh",
    // Python.
    "pypi.org",
    "files.pythonhosted.org",
    "bootstrap.pypa.io",
    "www.python.org",
    "astral.sh",
    "repo.anaconda.com",
    "conda.anaconda.org",
    // Rust.
    "crates.io",
    "static.crates.io",
    "index.crates.io",
    "static.rust-lang.org",
    "sh.rustup.rs",
    // Go; `go.dev/dl` sends to `dl.google.com`.
    "proxy.golang.org",
    "sum.golang.org",
    "go.dev",
    "golang.org",
    "dl.google.com",
    // Java and its kin. Gradle's wrapper asks `services` and is sent to `downloads`.
    "repo.maven.apache.org",
    "repo1.maven.org",
    "maven.google.com",
    "plugins.gradle.org",
    "plugins-artifacts.gradle.org",
    "services.gradle.org",
    "downloads.gradle.org",
    // Ruby.
    "rubygems.org",
    "index.rubygems.org",
    "cache.ruby-lang.org",
    // PHP.
    "packagist.org",
    "repo.packagist.org",
    "getcomposer.org",
    // .NET.
    "api.nuget.org",
    "www.nuget.org",
    "globalcdn.nuget.org",
    "builds.dotnet.microsoft.com",
    // Others.
    "hex.pm",
    "repo.hex.pm",
    "builds.hex.pm",
    "hackage.haskell.org",
    "downloads.haskell.org",
    "www.cpan.org",
    "cpan.metacpan.org",
    "fastapi.metacpan.org",
    "cran.r-project.org",
    "cloud.r-project.org",
    "pkg.julialang.org",
    "pub.dev",
    "formulae.brew.sh",
];

/// Registries of images, and where each sends for the layers. Docker Hub's are in one bucket by name and nowhere wider.
const IMAGES: &[&str] = &[
    "docker.io",
    "index.docker.io",
    "registry-1.docker.io",
    "auth.docker.io",
    "production.cloudflare.docker.com",
    "production.cloudfront.docker.com",
    "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
    // Docker's own packages.
    "download.docker.com",
    "ghcr.io",
    "pkg-containers.githubusercontent.com",
    "quay.io",
    "cdn.quay.io",
    "cdn01.quay.io",
    "cdn02.quay.io",
    "cdn03.quay.io",
    "mcr.microsoft.com",
    "*.data.mcr.microsoft.com",
];

/// Code hosts: web, API and SSH. Gists and their raw files are left out on purpose.
const CODE: &[&str] = &[
    "github.com",
    "github.com:22",
    // SSH where port 22 is closed on the way.
    "ssh.github.com:443",
    "api.github.com",
    "codeload.github.com",
    "raw.githubusercontent.com",
    "media.githubusercontent.com",
    "objects.githubusercontent.com",
    // Where releases have moved to from `objects`.
    "release-assets.githubusercontent.com",
    "gitlab.com",
    "gitlab.com:22",
    "altssh.gitlab.com:443",
    "bitbucket.org",
    "bitbucket.org:22",
    "altssh.bitbucket.org:443",
    "api.bitbucket.org",
    "codeberg.org",
    "codeberg.org:22",
];

/// Model vendors: their APIs, and where their command line tools sign in.
const MODELS: &[&str] = &[
    "api.openai.com",
    "auth.openai.com",
    // Codex with a subscription talks to the application itself.
    "chatgpt.com",
    "api.anthropic.com",
    "console.anthropic.com",
    "platform.claude.com",
    "claude.ai",
    // Gemini with a key, and with an account.
    "generativelanguage.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "aiplatform.googleapis.com",
    "oauth2.googleapis.com",
    "accounts.google.com",
    "openrouter.ai",
    "api.mistral.ai",
    "codestral.mistral.ai",
    "*.githubcopilot.com",
    "api.deepseek.com",
    "api.x.ai",
    "api.groq.com",
    "api.cerebras.ai",
    "api.together.xyz",
    "api.fireworks.ai",
    "api.cohere.com",
    "api.perplexity.ai",
    "api.moonshot.ai",
    "api.z.ai",
    // Hugging Face's inference; its hub is anybody's storage.
    "router.huggingface.co",
];

/// What open allows, of names; of addresses, [`crate::policy`] allows the public ones by the same words.
pub(crate) const ANYTHING: &str = "*:*";
const BALANCED: &[&[&str]] = &[DISTRIBUTIONS, PACKAGES, IMAGES, CODE, MODELS];

/// A preset's rules, made once and shared by all policies.
pub(crate) fn rules(preset: Preset) -> &'static Rules {
    static LOCKED_RULES: LazyLock<Rules> = LazyLock::new(Rules::default);
    static BALANCED_RULES: LazyLock<Rules> = LazyLock::new(|| layer(BALANCED));
    static OPEN_RULES: LazyLock<Rules> = LazyLock::new(|| layer(&[&[ANYTHING]]));
    match preset {
        Preset::Locked => &LOCKED_RULES,
        Preset::Balanced => &BALANCED_RULES,
        Preset::Open => &OPEN_RULES,
    }
}

/// A rule that does not parse would allow nothing; a test proves that there is none.
fn layer(groups: &[&[&str]]) -> Rules {
    let allow = groups.iter().copied().flatten().filter_map(|text| text.parse().ok()).collect();
    Rules::new(vec![Layer { origin: Origin::Preset, allow, deny: Vec::new() }])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::rule::{Rule, To};
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = &'static str> {
        BALANCED.iter().copied().flatten().copied()
    }

    #[test]
    fn all_are_rules_and_written_as_they_print() {
        for text in all().chain([ANYTHING]) {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn none_is_said_twice() {
        let mut seen = HashSet::new();
        for text in all() {
            assert!(seen.insert(text), "{text}");
        }
    }

    #[test]
    fn balanced_names_nobodys_storage() {
        for rule in all().map(|text| text.parse::<Rule>().unwrap()) {
            let covered = |host: &str| rule.matches_name(&host.parse().unwrap(), 443);
            for host in [
                "gist.github.com",
                "gist.githubusercontent.com",
                "uploads.github.com",
                "someone.github.io",
                "storage.googleapis.com",
                "bucket.storage.googleapis.com",
                "s3.amazonaws.com",
                "bucket.s3.amazonaws.com",
                "account.r2.cloudflarestorage.com",
                "account.blob.core.windows.net",
                "huggingface.co",
                "upload.pypi.org",
            ] {
                assert!(!covered(host), "{rule} covers {host}");
            }
            assert!(!matches!(rule.to, To::AnyName | To::Range(_)), "{rule}");
        }
    }
}
