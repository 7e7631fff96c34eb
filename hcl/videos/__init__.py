"""Decode video files with OpenCV or PyAV, deinterlace them and write their frames as JPEGs."""
