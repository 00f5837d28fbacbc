"""Take it home: the file, and the verdict of a fresh process that read it and ran it over the test images."""

import streamlit as st

from pages.parts import charts, controls, figures, live, state

choice = live.available(state.current())
with st.sidebar:
    controls.baseline_picker()
    st.page_link("pages/explore.py", label="Change the configuration", icon=":material/tune:")

bench = state.workbench()
st.title("Export")
result = live.measured(choice)
live.headline(result)
st.markdown(
    f"**{bench.title(choice.baseline)}** with **{figures.settings(choice.config)}**. Export writes one file of exactly "
    f"**{result.bytes:,} bytes**, then a fresh process reads it and runs it over all 10,000 test images. "
    "The test images are opened for this verdict only: look once, do not tune on it."
)

if choice != state.current():
    st.warning("This is the network **before** recovery: its training was not done yet. Explore has the button.")
if st.button("Export and verify on the test images", type="primary", icon=":material/verified:"):
    try:
        with st.status("Writing the file, reading it back in a fresh process, running the test images") as status:
            bench.export(choice.baseline, choice.config, bench.export_folder(*choice))
            status.update(label="Exported and verified", state="complete")
    except (OSError, ValueError) as error:
        st.error(f"The export did not succeed: {error} Free some space or choose another cache folder, then try again.")

export = bench.exported(*choice)
if export is None:
    st.info("This configuration was not exported yet.", icon=":material/info:")
else:
    verdict = export.verdict
    file = verdict["files"][0]
    if verdict["ok"]:
        st.success(
            f"Verified: the file predicts all {verdict['images']:,} test images exactly as shown here. "
            f"**{file['accuracy']:.2%}** on test; the baseline has {export.baseline_test_accuracy:.2%} "
            f"({figures.points(file['accuracy'] - export.baseline_test_accuracy)}).",
            icon=":material/verified:",
        )
    else:
        st.error(f"Not verified. {file.get('problem', '')} Export it again.", icon=":material/error:")
    order = ("path", "accuracy", "agreement", "bytes", "sha256")
    st.dataframe(
        verdict["files"],
        hide_index=True,
        column_order=order,
        alt="Files of the export with size, hash, accuracy and agreement",
    )
    first, second, _ = st.columns([1.3, 1, 2])
    first.download_button(
        f"Download the network, {figures.kilobytes(file['bytes'])}",
        data=export.network_bytes,
        file_name="network.safetensors",
        mime="application/octet-stream",
        on_click="ignore",
        type="primary",
        icon=":material/download:",
    )
    second.download_button(
        "Download the verdict",
        data=export.verdict_bytes,
        file_name="verdict.json",
        mime="application/json",
        on_click="ignore",
        icon=":material/download:",
    )
    st.markdown("Both in one folder verify again anywhere:")
    st.code("python -m core verify FOLDER", language="bash")

st.subheader("What the file holds")
left, right = st.columns([1.2, 1], gap="large")
with left:
    entries = figures.ledger_frame(result)
    charts.ledger(entries, f"Bytes of the file by layer and kind, {result.bytes:,} in all")
with right:
    st.dataframe(
        entries[["tensor", "kind", "bytes"]],
        hide_index=True,
        height=330,
        alt="The ledger: every stored array with its bytes",
        column_config={"bytes": st.column_config.NumberColumn(format="localized")},
    )
    sizes = bench.sizes(result)
    st.caption(" · ".join(f"{label}: {figures.kilobytes(size)}" for label, size in sizes.items()))

figures.show_code(
    result, "core.stored.to_tensors", "core.coding.pack_bits", "core.footprint.model_size_kb", "core.artifact.verify"
)
