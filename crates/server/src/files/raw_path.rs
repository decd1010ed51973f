//! A path as it was asked for: checked for shape, before the reach, which wakes. What lies there is
//! the guest's to say.

use crate::error::{Error, Result};
use rexec_api::files::PATH_BYTES_MAX;

/// An absolute path of a workspace: any bytes but NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawPath(Vec<u8>);

impl RawPath {
    /// From the field of that name, or from its bytes in base64 where it is not UTF-8.
    pub fn new(field: &str, text: &str, base64: Option<&str>) -> Result<Self> {
        let bytes = match base64 {
            None => text.as_bytes().to_vec(),
            Some(_) if !text.is_empty() => {
                return Err(Error::field(field, format!("Give `{field}` or `{field}_b64`, not both.")));
            }
            Some(base64) => rexec_api::raw_path::decode(base64)
                .ok_or_else(|| Error::field(&format!("{field}_b64"), format!("`{field}_b64` must be base64.")))?,
        };
        if bytes.starts_with(b"/") && !bytes.contains(&0) && bytes.len() <= PATH_BYTES_MAX {
            return Ok(Self(bytes));
        }
        Err(Error::field(
            field,
            format!(
                "`{field}` must be absolute, without NUL bytes, and {PATH_BYTES_MAX} bytes at most; one that is not UTF-8 \
                 goes as `{field}_b64`, its bytes in base64."
            ),
        ))
    }

    /// The last name; `root` for the root.
    pub fn name(&self) -> &[u8] {
        let mut names = self.0.split(|&byte| byte == b'/').rev();
        names.find(|name| !name.is_empty()).unwrap_or(b"root")
    }
}

impl AsRef<[u8]> for RawPath {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
