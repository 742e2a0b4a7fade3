"""Outlines as annotation tools write them (COCO, labelme, CVAT, YOLO), made into a folder of photographs and masks."""
