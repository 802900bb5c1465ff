//! User agents that everyone meets, and what they must be taken for.

use std::sync::LazyLock;

use super::*;

/// Compiled once for all tests of this binary.
pub(crate) static AGENTS: LazyLock<Arc<Agents>> =
    LazyLock::new(|| Arc::new(Agents::compile().expect("the shipped rules compile")));

#[test]
fn ordinary_browsers_are_people_with_a_device_a_system_and_a_name() {
    use Device::Desktop;
    use Device::Mobile;
    use Device::Other;
    use Device::Tablet;
    for (header, device, os, browser) in [
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            Desktop,
            "Windows",
            "Chrome",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
            Desktop,
            "Windows",
            "Edge",
        ),
        (
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Windows",
            "Firefox",
        ),
        (
            "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; Touch; Tablet PC 2.0; rv:11.0) like Gecko",
            Desktop,
            "Windows",
            "IE",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
            Desktop,
            "Mac OS X",
            "Safari",
        ),
        (
            "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Linux",
            "Firefox",
        ),
        (
            "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            Desktop,
            "Ubuntu",
            "Firefox",
        ),
        (
            "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            Desktop,
            "Chrome OS",
            "Chrome",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
            Mobile,
            "iOS",
            "Mobile Safari",
        ),
        (
            "Mozilla/5.0 (iPad; CPU OS 17_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
            Tablet,
            "iOS",
            "Mobile Safari",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
            Mobile,
            "Android",
            "Chrome Mobile",
        ),
        (
            "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
            Tablet,
            "Android",
            "Chrome",
        ),
        (
            "Mozilla/5.0 (Linux; Android 14; SM-S928B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            Mobile,
            "Android",
            "Samsung Internet",
        ),
        (
            "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
            Mobile,
            "Android",
            "Firefox Mobile",
        ),
        (
            "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/7.0 TV Safari/537.36",
            Other,
            "Tizen",
            "Safari",
        ),
    ] {
        let agent = AGENTS.understand(header.as_bytes());
        assert_eq!(agent.bot, None, "{header}");
        assert_eq!(agent.device, device, "{header}");
        assert_eq!(agent.os, os, "{header}");
        assert_eq!(agent.browser, browser, "{header}");
    }
}

#[test]
fn crawlers_previews_and_tools_are_bots() {
    for header in [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 8_3 like Mac OS X) AppleWebKit/600.1.4 (KHTML, like Gecko) Version/8.0 Mobile/12F70 Safari/600.1.4 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "Twitterbot/1.0",
        "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
        "WhatsApp/2.23.20.0",
        "TelegramBot (like TwitterBot)",
        "LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)",
        "curl/7.88.1",
        "Wget/1.21.3",
        "python-requests/2.31.0",
        "Go-http-client/1.1",
    ] {
        assert_eq!(
            AGENTS.understand(header.as_bytes()).bot,
            Some(BotReason::UserAgent),
            "{header}"
        );
    }
    for header in ["", "  "] {
        assert_eq!(AGENTS.understand(header.as_bytes()).bot, Some(BotReason::NoUserAgent));
    }
}

#[test]
fn the_same_header_is_understood_once() {
    let header = b"Mozilla/5.0 (X11; Linux x86_64; rv:1.0) Gecko/20100101 Firefox/1.0";
    let (once, twice) = (AGENTS.understand(header), AGENTS.understand(header));
    assert!(Arc::ptr_eq(&once, &twice));
}

#[test]
fn malformed_headers_are_understood_somehow() {
    let long = "Mozilla/5.0 (".repeat(40);
    for header in [b"\xff\xfe\x00".as_slice(), b"\x00", b"(((", long.as_bytes(), "ü/1.0".as_bytes()]
    {
        let agent = AGENTS.understand(header);
        assert!(!agent.browser.contains('\0') && !agent.os.contains('\0'));
    }
}
