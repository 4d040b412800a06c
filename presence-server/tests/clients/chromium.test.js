/** phoenix.js and the guide's page in Chromium. */

import assert from "node:assert/strict"
import { after, afterEach, before, beforeEach, describe, test } from "node:test"
import { launch, Pages, servePhoenix } from "./chromium.js"
import { until } from "./expect.js"
import * as scenarios from "./scenarios.js"
import { Server } from "./server.js"

let browser, phoenixPage
before(async () => ([browser, phoenixPage] = await Promise.all([launch(), servePhoenix()])))
after(() => Promise.all([browser?.close(), phoenixPage?.close()]))

// Side by side, since over long polling most of the time is spent on waiting until a tab is missed.
describe("in Chromium", { concurrency: true }, () => {
  describe("phoenix.js", { concurrency: false }, () => phoenixJs("WebSocket"))
  describe("phoenix.js over long polling", { concurrency: false }, () => phoenixJs("LongPoll"))
  describe("the guide's page", { concurrency: false }, () => guidePage(""))
  describe("the guide's page over long polling", { concurrency: false }, () => guidePage("&transport=longpoll"))
})

function phoenixJs(transport) {
  const world = visit("--app", "conformance")

  async function open(name) {
    const page = await world.pages.open(phoenixPage.url)
    await page.evaluate(async ([url, name, transport]) => {
      const [client, { Tab }] = await Promise.all([import("/phoenix.mjs"), import("/tab.js")])
      const transports = { WebSocket, LongPoll: client.LongPoll }
      window.tab = new Tab(client, url, name, { transport: transports[transport] })
    }, [world.server.socket, name, transport])
    return {
      list: () => page.evaluate(() => tab.list()),
      lists: () => page.evaluate(() => tab.lists),
      joins: () => page.evaluate(() => tab.joins),
      refs: () => page.evaluate(() => tab.refs()),
      metas: key => page.evaluate(key => tab.metas(key), key),
      changes: () => page.evaluate(() => tab.changes),
      setStatus: status => page.evaluate(status => tab.setStatus(status), status),
      close: () => page.close(),
    }
  }

  test("tabs come and go", () => scenarios.comeAndGo(open))
  test("an update is one new meta in place of the old", () => scenarios.update(open))
  test("the server stops and is started again", () => scenarios.restart(open, world.server, "SIGTERM"))
  test("the server is killed and started again", () => scenarios.restart(open, world.server, "SIGKILL"))
}

function guidePage(query) {
  const world = visit()

  async function open(name) {
    const page = await world.pages.open(`${world.server.url}/?name=${name}${query}`)
    await page.evaluate(() => {
      window.shownLists = []
      window.shown = () => [...document.querySelectorAll("#people > li[data-name]:not([aria-hidden])")].map(row => {
        const [count] = row.textContent.match(/\(count: \d+\)/)
        const line = `${row.dataset.name} ${count}`
        return row.textContent.includes(line) ? line : row.textContent
      }).sort()
      const people = document.getElementById("people")
      const changes = { childList: true, characterData: true, subtree: true }
      new MutationObserver(() => shownLists.push(shown())).observe(people, changes)
    })
    const activity = () => page.locator("#activity li > span").allTextContents()
    return {
      page,
      activity,
      list: () => page.evaluate(() => shown()),
      lists: () => page.evaluate(() => shownLists),
      joins: async () => (await activity()).filter(line => /^(You joined as |You are back)/.test(line)).length,
      close: () => page.close(),
    }
  }

  test("tabs come and go", () => scenarios.comeAndGo(open))
  test("the server stops and is started again", () => scenarios.restart(open, world.server, "SIGTERM"))
  test("the server is killed and started again", () => scenarios.restart(open, world.server, "SIGKILL"))

  test("a status is shown in every tab", async () => {
    const [alice, bob] = await Promise.all(["Alice", "Bob"].map(open))
    const both = ["Alice (count: 1)", "Bob (count: 1)"]
    await until("Alice's list", () => alice.list(), both)
    await until("Bob's list", () => bob.list(), both)
    await alice.page.getByLabel("Away").check({ force: true })
    await until("what Bob's tab tells last", async () => (await bob.activity())[0], "Alice is away")
    const row = tab => tab.page.locator("#people > li[data-name=Alice]").textContent()
    for (const tab of [alice, bob]) {
      await until("Alice's row", async () => /away/i.test(await row(tab)), true)
      assert.deepEqual(await tab.list(), both)
    }
  })

  test("a link opens a tab as somebody else", async () => {
    const alice = await open("Alice")
    await until("Alice's list", () => alice.list(), ["Alice (count: 1)"])
    const [popup] = await Promise.all([alice.page.context().waitForEvent("page"), alice.page.click("#other-tab")])
    await until("Alice's list", () => alice.list(), ["Alice (count: 1)", "Bob (count: 1)"])
    await until("Bob's heading", () => popup.locator("#you").textContent(), "You are Bob")
  })
}

/** A server and a visitor's pages, for each test anew: a server misses those that polled only after a while. */
function visit(...args) {
  const world = {}
  beforeEach(async () => {
    [world.server, world.pages] = await Promise.all([Server.start(...args), Pages.in(browser)])
  })
  afterEach(async () => {
    const errors = await world.pages?.close()
    await world.server?.stop()
    assert.deepEqual(errors, [], "errors in a page")
  })
  return world
}
