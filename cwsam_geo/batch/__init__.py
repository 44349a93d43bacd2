"""Maps many scenes, one after another or on several devices.

arguments, lists, STAC items -> scene_list (which files are one scene) -> names (its outputs)
 -> queue (prepares the next scene in a thread of its own) -> prediction -> results (summary)
"""
