// The filter buttons of the trajectories. Without JavaScript every card is shown and the buttons stay hidden.
const filters = document.querySelector(".filters");
if (filters) {
  const cards = [...document.querySelectorAll(".card")];
  const buttons = [...filters.querySelectorAll("button")];
  const wanted = { outcome: "", condition: "" };
  const show = () => {
    let shown = 0;
    for (const card of cards) {
      const fits = Object.entries(wanted).every(([kind, value]) => !value || card.dataset[kind].split(" ").includes(value));
      card.hidden = !fits;
      shown += fits;
    }
    for (const b of buttons) b.setAttribute("aria-pressed", String(wanted[b.dataset.kind] === b.dataset.value));
    filters.querySelector(".count").textContent = shown === cards.length ? "" : `${shown} of ${cards.length} samples`;
  };
  for (const b of buttons) b.addEventListener("click", () => { wanted[b.dataset.kind] = b.dataset.value; show(); });
  filters.hidden = false;
}
