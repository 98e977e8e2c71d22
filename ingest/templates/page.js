"use strict";
/* Takes the newest page of the same address, and puts its content where the old one was. */
(function () {
  var main = document.querySelector("main");
  var lost = document.getElementById("lost");
  function take(text) {
    var page = new DOMParser().parseFromString(text, "text/html");
    var fresh = page.querySelector("main");
    if (!fresh) throw new Error("not the page");
    fresh.querySelectorAll("details").forEach(function (part) {
      var shown = document.getElementById(part.id);
      if (shown) part.open = shown.open;
    });
    main.replaceChildren.apply(main, Array.from(fresh.childNodes));
    main.dataset.seconds = fresh.dataset.seconds;
    document.title = page.title;
    lost.hidden = true;
  }
  function renew() {
    if (document.hidden) return Promise.resolve();
    return fetch(location.href, { cache: "no-store", credentials: "same-origin" })
      .then(function (answer) { return answer.text(); })
      .then(take)
      .catch(function () { lost.hidden = false; });
  }
  function wait() {
    setTimeout(function () { renew().then(wait); }, Number(main.dataset.seconds) * 1000);
  }
  document.addEventListener("visibilitychange", renew);
  wait();
})();
