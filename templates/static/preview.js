// Show the notebook that the launch opens, while its environment is built.

export async function showPreview(box, address) {
  try {
    if (!(await fetch(address)).ok) return; // no preview; the launch does not need one
  } catch {
    return;
  }
  box.querySelector("iframe").src = address;
  box.hidden = false;
}
