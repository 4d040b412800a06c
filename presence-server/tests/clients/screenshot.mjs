/**
 * Takes the picture of the guide's page: Bob's tab, with Alice in two others.
 *
 *     node screenshot.mjs http://127.0.0.1:4000 guide.png
 */

import { launch, Pages } from "./chromium.js"
import { until } from "./expect.js"

const [url, path] = process.argv.slice(2)
if (!path) {
  console.error("usage: node screenshot.mjs URL OUT.png")
  process.exit(2)
}

const browser = await launch()
try {
  const view = { viewport: { width: 1200, height: 700 }, deviceScaleFactor: 1, colorScheme: "light", locale: "en-GB" }
  const pages = await Pages.in(browser, { ...view, reducedMotion: "reduce" })
  const open = name => pages.open(new URL(`/?name=${name}`, url).href)
  const shows = (page, text) =>
    until(`the list with ${text}`, async () => (await page.locator("#people").textContent()).includes(text), true)

  const bob = await open("Bob")
  await shows(bob, "Bob (count: 1)")
  const alice = await open("Alice")
  await shows(bob, "Alice (count: 1)")
  await open("Alice")
  await shows(bob, "Alice (count: 2)")
  const carol = await open("Carol")
  await shows(bob, "Carol (count: 1)")
  await alice.getByLabel("Away").check({ force: true })
  await until("Alice's status", async () => (await bob.locator("#activity").textContent()).includes("Alice is away"), true)
  await carol.close()
  await until("Carol", () => bob.locator("#people > li[data-name=Carol]").count(), 0)

  await bob.bringToFront()
  await bob.mouse.move(1, 1)
  await bob.screenshot({ path })
} finally {
  await browser.close()
}
