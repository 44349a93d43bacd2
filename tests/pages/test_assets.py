"""What is bundled for the pages."""

import re

from paths import PACKAGE, ROOT

LEAFLET = PACKAGE / "pages" / "assets" / "leaflet"


def test_the_notice_names_the_version_of_leaflet_that_is_bundled():
    version = re.search(r'\.version="([\d.]+)"', (LEAFLET / "leaflet.js").read_text()).group(1)
    assert f"Leaflet {version} " in (ROOT / "NOTICE").read_text()
    assert "BSD 2-Clause License" in (LEAFLET / "LICENSE").read_text()
