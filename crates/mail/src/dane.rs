//! Do a host's TLSA records (RFC 6698, 7671, 7672) vouch for the certificates it showed?
//!
//! The records must have come through a validated look-up; that is the caller's to know. Signatures along a chain, names
//! and dates are not judged here: they matter only for a trust anchor, and the verdict then names it for the TLS side.

use aws_lc_rs::digest;

/// One TLSA record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tlsa {
    pub usage: u8,
    pub selector: u8,
    pub matching: u8,
    pub data: Vec<u8>,
}

/// Usage 2, DANE-TA: the data names an authority in the host's chain.
const TRUST_ANCHOR: u8 = 2;
/// Usage 3, DANE-EE: the data names the host's own certificate.
const END_ENTITY: u8 = 3;
const SELECTOR_CERTIFICATE: u8 = 0;
const SELECTOR_KEY: u8 = 1;
const MATCHING_WHOLE: u8 = 0;
const MATCHING_SHA256: u8 = 1;
const MATCHING_SHA512: u8 = 2;

/// What the records say of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// RFC 7671 5.1: the host's own certificate is vouched for; its name and dates do not matter.
    Authenticated,
    /// The certificate at this place of the chain is vouched for as authority. The host is authenticated only if the
    /// chain up to it verifies, with dates, and one of the reference names (RFC 7672 3.2.2) is in the first certificate.
    TrustAnchor(usize),
    /// RFC 7672 2.1.3: records are there but none is usable: TLS is required, without authentication.
    EncryptionOnly,
    /// Records are usable and none fits: do not deliver through this connection.
    Mismatch,
}

impl Tlsa {
    /// From the octets of a record; `None` when they are too few.
    pub fn from_rdata(rdata: &[u8]) -> Option<Tlsa> {
        let (&[usage, selector, matching], data) = rdata.split_first_chunk()?;
        Some(Tlsa { usage, selector, matching, data: data.to_vec() })
    }

    /// RFC 7672 3.1.3: usages 0 and 1 are unusable for SMTP.
    pub fn usable(&self) -> bool {
        let data_fits = match self.matching {
            MATCHING_WHOLE => !self.data.is_empty(),
            MATCHING_SHA256 => self.data.len() == 32,
            MATCHING_SHA512 => self.data.len() == 64,
            _ => false,
        };
        matches!(self.usage, TRUST_ANCHOR | END_ENTITY)
            && matches!(self.selector, SELECTOR_CERTIFICATE | SELECTOR_KEY)
            && data_fits
    }

    fn names(&self, certificate: &[u8]) -> bool {
        let selected = match self.selector {
            SELECTOR_CERTIFICATE => Some(certificate),
            _ => public_key_info(certificate),
        };
        selected.is_some_and(|octets| match self.matching {
            MATCHING_WHOLE => octets == self.data,
            MATCHING_SHA256 => digest::digest(&digest::SHA256, octets).as_ref() == self.data,
            _ => digest::digest(&digest::SHA512, octets).as_ref() == self.data,
        })
    }
}

/// Judges the chain that a host showed, its own certificate first, by its TLSA records.
///
/// A trust anchor must be in the chain (RFC 7672 3.1.2 obliges hosts to send it).
pub fn decide(records: &[Tlsa], chain: &[&[u8]]) -> Verdict {
    let usable: Vec<&Tlsa> = records.iter().filter(|record| record.usable()).collect();
    if usable.is_empty() {
        return Verdict::EncryptionOnly;
    }
    // RFC 7671 9: beside a SHA-512 of the same usage and selector, a SHA-256 does not count.
    let outdone = |record: &Tlsa| {
        record.matching == MATCHING_SHA256
            && usable.iter().any(|other| {
                other.matching == MATCHING_SHA512 && (other.usage, other.selector) == (record.usage, record.selector)
            })
    };
    let vouched = |usage: u8, certificate: &[u8]| {
        usable.iter().any(|record| record.usage == usage && !outdone(record) && record.names(certificate))
    };
    if chain.first().is_some_and(|own| vouched(END_ENTITY, own)) {
        return Verdict::Authenticated;
    }
    match chain.iter().position(|certificate| vouched(TRUST_ANCHOR, certificate)) {
        Some(place) => Verdict::TrustAnchor(place),
        None => Verdict::Mismatch,
    }
}

/// The SubjectPublicKeyInfo of a DER certificate, its own tag and length included (RFC 5280 4.1).
pub fn public_key_info(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut rest, _) = element(certificate.inside, SEQUENCE).map(|(signed, rest)| (signed.inside, rest))?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest, VERSION)?.1;
    }
    // serialNumber, signature, issuer, validity, subject
    for tag in [0x02, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
        rest = element(rest, tag)?.1;
    }
    element(rest, SEQUENCE).map(|(key, _)| key.whole)
}

struct Element<'a> {
    whole: &'a [u8],
    inside: &'a [u8],
}

/// The first DER element of the octets, which must bear this tag, and what follows it.
fn element(octets: &[u8], tag: u8) -> Option<(Element<'_>, &[u8])> {
    let (&[found, first], after) = octets.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, head) = match first {
        0..=0x7f => (usize::from(first), 2),
        // A certificate of 4 GiB and more is none.
        0x81..=0x84 => {
            let count = usize::from(first & 0x7f);
            let length = after.get(..count)?.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, 2 + count)
        }
        _ => return None,
    };
    let end = head.checked_add(length)?;
    let whole = octets.get(..end)?;
    Some((Element { whole, inside: &whole[head..] }, &octets[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    // Made with `openssl req -x509` and `openssl x509 -req`; the digests with `openssl x509 -pubkey`, `openssl pkey
    // -outform der` and `sha256sum`, `sha512sum`.
    const ROOT: &str = "3082017e30820125a00302010202145479b972f2e04e186a4f6fef4727ffc618784262300a06082a8648ce3d04030230143112301006\
        035504030c095465737420526f6f743020170d3236313132313039353432375a180f32313236313032383039353432375a3014311230\
        1006035504030c095465737420526f6f743059301306072a8648ce3d020106082a8648ce3d03010703420004015d64c1d834db558bc0\
        3e289c785fd665bb662cf59ce5ea450a5a66f01408260f68748bac56bf0528dfce6a589996de1e4860fe429b822b9bfd8600ffba9b30\
        a3533051301d0603551d0e04160414438c6b9ed272d42785bcb4280c4a23656956e894301f0603551d23041830168014438c6b9ed272\
        d42785bcb4280c4a23656956e894300f0603551d130101ff040530030101ff300a06082a8648ce3d040302034700304402206fb8669a\
        41ab4db1a78e2e187bab8f85aad75f5170eeba78b1fa88e94087362e02202e2cb988330f05504520250d075a930b261da3cbb069ece9\
        10a689ef868ad4b7";
    const ROOT_KEY_SHA256: &str = "86a4ae476f8cce4f83dff4ab8fed03baffeabfc5ad2b86871411e1113dd86aaf";
    const LEAF: &str = "3082019130820136a00302010202147798d8b13c2141ed809e8f411640b8f53303c983300a06082a8648ce3d04030230143112301006\
        035504030c095465737420526f6f743020170d3236313132313039353432375a180f32313236313032383039353432375a301a311830\
        1606035504030c0f6d782e6578616d706c652e746573743059301306072a8648ce3d020106082a8648ce3d03010703420004bb3cc30f\
        1a68a68b04d8cb6dacffec81c88affc16456d0d1808b41273bc713d99374e398397c3b4df2b8c61655d59d5ca5e31863bf6bb5e636e5\
        ca5fd175a54aa35e305c301a0603551d1104133011820f6d782e6578616d706c652e74657374301d0603551d0e04160414e320b6a7f1\
        074939811d1dda4adcc272d87fb3f5301f0603551d23041830168014438c6b9ed272d42785bcb4280c4a23656956e894300a06082a86\
        48ce3d040302034900304602210092d462d103d2a2bd8d1527606223d8960dfabd85ff4713b124131004feb2b2af022100ab1c9779e9\
        4ed004a95b613d2ed035cd1a46432195c55ad211a145b041647440";
    const LEAF_KEY_SHA256: &str = "ed6896365d5c2271d7e948be302b8d24211ed334ba2a78f01908cebd6b622c76";
    const VERSION_1: &str = "3082012b3081d102147798d8b13c2141ed809e8f411640b8f53303c984300a06082a8648ce3d04030230143112301006035504030c09\
        5465737420526f6f743020170d3236313132313039353432375a180f32313236313032383039353432375a301a311830160603550403\
        0c0f6d782e6578616d706c652e746573743059301306072a8648ce3d020106082a8648ce3d03010703420004bb3cc30f1a68a68b04d8\
        cb6dacffec81c88affc16456d0d1808b41273bc713d99374e398397c3b4df2b8c61655d59d5ca5e31863bf6bb5e636e5ca5fd175a54a\
        300a06082a8648ce3d04030203490030460221008d526c9e644ab511eecf4dd1a3e57eba6e6f6fe204a6907d05f51a65d5fa64ee0221\
        00c2b6b67388dafdfdb5386a74415725727150180ef2524d2f069f089197bf1894";
    const VERSION_1_KEY_SHA256: &str = "ed6896365d5c2271d7e948be302b8d24211ed334ba2a78f01908cebd6b622c76";
    const RSA: &str = "3082031930820201a0030201020214346fc413d5c07b30e574e2c056dcee18e08791b1300d06092a864886f70d01010b0500301b3119\
        301706035504030c107273612e6578616d706c652e746573743020170d3236313132313039353432375a180f32313236313032383039\
        353432375a301b3119301706035504030c107273612e6578616d706c652e7465737430820122300d06092a864886f70d010101050003\
        82010f003082010a0282010100b1c5339d05bbd45121b0c901546680dd1fc6c2c21b21eebd9647d14a385018ed55d6bc2e4d20f89084\
        636db9e9bd6c2e4237d4457e713fa14aaffc354cb2b3451a5a4ececc50eefeb634dcb362a8f43f3ea3418d9f35d0411fee2c3ab7bc98\
        5b5355c2fcba9e3c2f0e1420b7bf09dfa5477cfed51770d8b36bffece1181106d65b91d92585e0e3c6c30bfca8ec084db1120779e173\
        1ba61958cde4415968bc5a9dcdd73088807857c60833f4eeddbc3a4efc1a3801d1875754e84a4995849129b2cec0ebec6d2824075ccb\
        24cf70d773f8562b5b8ced3557e49438ad14e109c8e79e151a1f2d24b25a672f8c6d850b0cda299c924ec0fba02a30d1591f81941f02\
        03010001a3533051301d0603551d0e04160414169cd34050aca8eb0e56c6bf3fa4b66576a0d2e1301f0603551d23041830168014169c\
        d34050aca8eb0e56c6bf3fa4b66576a0d2e1300f0603551d130101ff040530030101ff300d06092a864886f70d01010b050003820101\
        0073d8cf5736789950c9a9bf29b758a5c006f96dbb75ff00c25a6ab6c21599be12753ca88d74c08662f3ec1c7ff1dc319f3b3202a55e\
        770b8e1530a20726a2960371f60793791ab26ae8f7b29c9331f00dd96cdf5b9edb9443a2ca64c132f6453ca2e809d38fef7c3ede7efc\
        5567a616bc94c6c017a29d0f00565c17aa7c48b588d5ee95fb6e335b7233e83901263c2c8defa2c2ee9367bd20705991811b6223a90f\
        5ccb3d1295cae551f8d69e2300faf16cee1ee3b55e1351a99649bddbf7d9a0f00693f0ced70e8334f65503c2e6ea365dff8ef5ef879b\
        8c1121324ee10af0b4fff2a7a08f2c6add41eec067e62c78c04cd4ab7e018d4fbf5314fec4bd1c836e";
    const RSA_KEY_SHA256: &str = "29a5d62fefdf1a77f244df6344589c9ff9a762a5cd300d11231a68674a7542ff";
    const LEAF_SHA512: &str = "2f227d8eb5b676776cc0ac81b12349c4e6a9663323531e22e7be6ae07698b7ae5b42e6bfc3aa62ad3a120ce508dcd64ccbe9081a1ad3\
        549b56667084875c904b";

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
    }

    fn tlsa(usage: u8, selector: u8, matching: u8, data: &str) -> Tlsa {
        Tlsa::from_rdata(&[vec![usage, selector, matching], octets(data)].concat()).unwrap()
    }

    fn check(records: &[Tlsa], expected: Verdict) {
        let (leaf, root) = (octets(LEAF), octets(ROOT));
        assert_eq!(decide(records, &[&leaf, &root]), expected, "{records:?}");
    }

    fn hex(octets: &[u8]) -> String {
        octets.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_public_key_is_found_in_a_certificate() {
        for (certificate, digest) in
            [(ROOT, ROOT_KEY_SHA256), (LEAF, LEAF_KEY_SHA256), (VERSION_1, VERSION_1_KEY_SHA256), (RSA, RSA_KEY_SHA256)]
        {
            let certificate = octets(certificate);
            let key = public_key_info(&certificate).unwrap();
            assert_eq!(hex(digest::digest(&digest::SHA256, key).as_ref()), digest);
        }
    }

    #[test]
    fn a_certificate_cut_anywhere_or_with_a_flipped_octet_is_no_panic() {
        let whole = octets(LEAF);
        let key_end =
            public_key_info(&whole).map(|key| key.as_ptr_range().end as usize - whole.as_ptr() as usize).unwrap();
        for length in 0..whole.len() {
            assert_eq!(public_key_info(&whole[..length]), None);
        }
        for place in 0..key_end {
            let mut changed = whole.clone();
            changed[place] ^= 0xff;
            let _ = public_key_info(&changed);
        }
        assert_eq!(public_key_info(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(public_key_info(&[0x30, 0x80, 0, 0]), None);
    }

    // R5.1
    #[test]
    fn the_hosts_own_certificate_is_vouched_for() {
        check(&[tlsa(3, 1, 1, LEAF_KEY_SHA256)], Verdict::Authenticated);
        check(&[tlsa(3, 0, 2, LEAF_SHA512)], Verdict::Authenticated);
        check(&[tlsa(3, 0, 0, LEAF)], Verdict::Authenticated);
        let leaf = octets(LEAF);
        check(&[tlsa(3, 1, 0, &hex(public_key_info(&leaf).unwrap()))], Verdict::Authenticated);
        // A roll-over: the next key's record is there already.
        check(&[tlsa(3, 1, 1, RSA_KEY_SHA256), tlsa(3, 1, 1, LEAF_KEY_SHA256)], Verdict::Authenticated);
    }

    // R5.1
    #[test]
    fn an_authority_is_named_for_the_tls_side_to_complete() {
        check(&[tlsa(2, 1, 1, ROOT_KEY_SHA256)], Verdict::TrustAnchor(1));
        check(&[tlsa(2, 0, 0, ROOT)], Verdict::TrustAnchor(1));
        check(&[tlsa(2, 1, 1, ROOT_KEY_SHA256), tlsa(3, 1, 1, LEAF_KEY_SHA256)], Verdict::Authenticated);
    }

    // R5.1
    #[test]
    fn what_fits_nothing_is_a_mismatch() {
        check(&[tlsa(3, 1, 1, RSA_KEY_SHA256)], Verdict::Mismatch);
        // The authority's key does not vouch as the host's own.
        check(&[tlsa(3, 1, 1, ROOT_KEY_SHA256)], Verdict::Mismatch);
        // The digest of the key is not that of the certificate.
        check(&[tlsa(3, 0, 1, LEAF_KEY_SHA256)], Verdict::Mismatch);
        assert_eq!(decide(&[tlsa(3, 1, 1, LEAF_KEY_SHA256)], &[]), Verdict::Mismatch);
    }

    // R5.1
    #[test]
    fn unusable_records_leave_encryption_alone() {
        check(&[], Verdict::EncryptionOnly);
        check(&[tlsa(1, 1, 1, LEAF_KEY_SHA256), tlsa(0, 1, 1, LEAF_KEY_SHA256)], Verdict::EncryptionOnly);
        check(&[tlsa(3, 2, 1, LEAF_KEY_SHA256)], Verdict::EncryptionOnly);
        check(&[tlsa(3, 1, 3, LEAF_KEY_SHA256)], Verdict::EncryptionOnly);
        check(&[tlsa(3, 1, 1, "00")], Verdict::EncryptionOnly);
        check(&[tlsa(3, 1, 0, "")], Verdict::EncryptionOnly);
        // One usable record among them decides.
        check(&[tlsa(1, 1, 1, LEAF_KEY_SHA256), tlsa(3, 1, 1, RSA_KEY_SHA256)], Verdict::Mismatch);
        assert_eq!(Tlsa::from_rdata(&[3, 1]), None);
    }

    #[test]
    fn the_stronger_digest_decides() {
        let wrong_sha512 = "00".repeat(64);
        check(&[tlsa(3, 1, 1, LEAF_KEY_SHA256), tlsa(3, 1, 2, &wrong_sha512)], Verdict::Mismatch);
        check(&[tlsa(3, 1, 1, LEAF_KEY_SHA256), tlsa(3, 0, 2, &wrong_sha512)], Verdict::Authenticated);
    }
}
