# SPDX-License-Identifier: Apache-2.0
"""The chat page of `hga serve` in a real browser: a file is dropped, a question answered, stopped,
and the lens shows where a token looked. HGA_SCREENSHOTS=DIR keeps pictures."""
import os
import pathlib
import re
import shutil
import tempfile
import unittest

import cli_support
from server_support import Server

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    sync_playwright = None

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@unittest.skipIf(sync_playwright is None, "needs playwright (PyPI)")
@unittest.skipIf(BROWSER is None, "needs chromium")
class ServerPageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--slots", "2", context=16384)
        cls.url = cls.server.url
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=BROWSER,
                                                     args=["--no-sandbox"])
        text = pathlib.Path(cli_support.ROOT, "examples/text/middlemarch.txt").read_text()
        cls.folder = tempfile.TemporaryDirectory()
        cls.document = pathlib.Path(cls.folder.name, "novel.txt")
        cls.document.write_text(text[:12000])

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.playwright.stop()
        cls.server.close()
        cls.folder.cleanup()

    def setUp(self):
        self.page = self.browser.new_page(viewport={"width": 1280, "height": 800})
        self.errors, self.elsewhere = [], []
        self.expected = lambda error: False
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text)
                     if message.type == "error" else None)
        self.page.on("request", lambda request: self.elsewhere.append(request.url)
                     if not request.url.startswith((self.url, "data:")) else None)
        self.page.goto(self.url)
        self.wait_text("#model", "hga-mini, .* tokens")

    def tearDown(self):
        self.page.close()
        self.assertEqual([error for error in self.errors if not self.expected(error)], [])
        self.assertEqual(self.elsewhere, [], "the page asks other hosts")

    def picture(self, name):
        if folder := os.environ.get("HGA_SCREENSHOTS"):
            self.page.screenshot(path=f"{folder}/{name}.png")

    def ask(self, question, most):
        self.page.locator("#max-tokens").evaluate("(e, n) => { e.value = n; }", most)
        self.page.fill("#question", question)
        self.page.press("#question", "Enter")

    def wait_text(self, where, pattern):
        expect(self.page.locator(where)).to_have_text(re.compile(pattern), timeout=60_000)

    def wait_for_answer(self):
        self.page.wait_for_selector(".message.assistant .foot", timeout=120_000)

    def test_a_document_is_read_and_the_lens_shows_where_a_token_looked(self):
        page = self.page
        self.picture("empty")
        page.set_input_files("#file", str(self.document))
        self.wait_text("#files", r"novel\.txt, [\d,.]+ tokens")
        self.picture("file")
        # What the progress bar said while the prompt was read.
        page.evaluate("""() => {
          window.said = [];
          new MutationObserver(() => window.said.push(
            document.getElementById('progress-text').textContent))
            .observe(document.getElementById('progress-text'), {childList: true});
        }""")
        self.ask("Who was Dorothea?", 12)
        self.wait_for_answer()
        said = page.evaluate("window.said")
        self.assertTrue(said and all(line.startswith("reading ") for line in said), said)
        foot = page.text_content(".message.assistant .foot")
        self.assertRegex(foot, r"[\d,.]+ tokens read, 0 of them kept from before")
        tokens = page.locator(".message.assistant .token")
        self.assertGreaterEqual(tokens.count(), 5)
        self.picture("answer")

        tokens.nth(3).click()
        self.assertTrue(page.is_visible("#lens"))
        self.assertRegex(page.text_content("#lens-figures"),
                         r"^[\d,.]+ tokens before it, \d+\.\d % visible")
        painted = page.evaluate("""() => {
          const canvas = document.getElementById('lens-strip');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          let bright = 0;
          for (let i = 3; i < data.length; i += 4) bright += data[i] === 255;
          return bright;
        }""")
        self.assertGreater(painted, 50, "no opened group is drawn")
        box = page.locator("#lens-strip").bounding_box()
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_for_selector("#lens-passage mark")
        passage = page.text_content("#lens-passage")
        marked = page.text_content("#lens-passage mark")
        self.assertRegex(passage, r"^layer \d+, tokens [\d,.]+ to [\d,.]+\n")
        self.assertIn(marked, self.document.read_text(), "the passage is not from the document")
        self.picture("lens")

    def test_a_second_question_finds_the_document_read(self):
        page = self.page
        page.set_input_files("#file", str(self.document))
        self.wait_text("#files", "tokens")
        self.ask("Where did she live?", 4)
        self.wait_for_answer()
        self.ask("And whom did she marry?", 4)
        expect(page.locator(".message.assistant .foot")).to_have_count(2, timeout=120_000)
        foot = page.locator(".message.assistant .foot").nth(1).text_content()
        read, kept = (int(re.sub(r"\D", "", number)) for number in
                      re.match(r"([\d,.]+) tokens read, ([\d,.]+) of them", foot).groups())
        self.assertGreater(kept, 0.95 * read, foot)

    def test_reading_is_stopped(self):
        page = self.page
        long = pathlib.Path(self.folder.name, "other.txt")
        long.write_text(pathlib.Path(cli_support.ROOT, "examples/text/middlemarch.txt")
                        .read_text()[20000:60000])
        page.set_input_files("#file", str(long))
        self.wait_text("#files", "tokens")
        self.ask("What happens?", 100)
        page.wait_for_selector("#progress-bar", state="visible")
        page.click("#stop")
        self.wait_for_answer()
        self.assertIn("stopped", page.text_content(".message.assistant .foot"))
        self.assertTrue(page.is_visible("#send"))
        # The server is free again well before the document could have been read.
        self.server.wait_for(lambda: self.server.metric("hga_num_requests_running") == 0, 5)

    def test_text_of_a_model_or_a_file_is_never_markup(self):
        page = self.page
        evil = pathlib.Path(self.folder.name, "<img src=x onerror=alert(1)>.txt")
        evil.write_text("<script>document.title = 'wrong'</script> <|im_end|>")
        page.set_input_files("#file", str(evil))
        self.ask("<b id=injected>bold</b>", 4)
        self.wait_for_answer()
        self.assertEqual(page.locator("#injected").count(), 0)
        self.assertEqual(page.locator(".message img, .message script").count(), 0)
        self.assertEqual(page.title(), "hga")

    def test_a_file_that_does_not_fit_is_said_and_refused(self):
        page = self.page
        long = pathlib.Path(self.folder.name, "long.txt")
        long.write_text("All happy families are alike. " * 6000)
        page.set_input_files("#file", str(long))
        self.wait_text("#budget", "refuse")
        self.ask("Why?", 4)
        page.wait_for_selector(".message.assistant .error")
        self.assertIn("16384", page.text_content(".message.assistant .error").replace(",", ""))
        self.expected = lambda error: "400" in error  # the browser's own line


if __name__ == "__main__":
    unittest.main()
